"""Reads again what was accepted: DIR/<n>.archive, with DIR/<n>.json = {path: sha256} of what was unpacked.

Prints "<n> what differs" for each difference, and at last "read <count>". A zip's files are described
twice, before each file and in the directory at the end; the two are compared here without the library.
"""
import hashlib, io, json, os, struct, sys, tarfile, zipfile

directory = sys.argv[1]


def two_descriptions(path):
    data = open(path, "rb").read()
    at = data.rfind(b"PK\5\6")
    count, = struct.unpack_from("<H", data, at + 10)
    place, = struct.unpack_from("<I", data, at + 16)
    if 0xFFFF == count or 0xFFFFFFFF == place:
        large = data.rfind(b"PK\6\6", 0, at)
        count, = struct.unpack_from("<Q", data, large + 32)
        place, = struct.unpack_from("<Q", data, large + 48)
    for _ in range(count):
        assert data[place:place + 4] == b"PK\1\2", "no entry of the directory where one should be"
        flags, method, _, _, crc, packed, size, names, extras, comments = struct.unpack_from(
            "<HHHHIIIHHH", data, place + 8)
        local, = struct.unpack_from("<I", data, place + 42)
        name = data[place + 46:place + 46 + names]
        place += 46 + names + extras + comments
        if local == 0xFFFFFFFF:
            continue
        if data[local:local + 4] != b"PK\3\4":
            yield f"{name!r}: no header"
            continue
        l_flags, l_method, _, _, l_crc, l_packed, l_size, l_names = struct.unpack_from("<HHHHIIIH", data, local + 6)
        if data[local + 30:local + 30 + l_names] != name:
            yield f"{name!r}: another name"
        if method != l_method:
            yield f"{name!r}: another method"
        if (flags ^ l_flags) & 0x2049:
            yield f"{name!r}: other flags"
        known = not l_flags & 8
        for here, there in ((l_crc, crc), (l_packed, packed), (l_size, size)):
            if here != there and here != 0xFFFFFFFF and there != 0xFFFFFFFF and (known or here):
                yield f"{name!r}: another size or checksum"


def plain(name):
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def of_zip(path):
    for difference in two_descriptions(path):
        yield None, difference
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            link = info.create_system == 3 and info.external_attr >> 16 & 0o170000 == 0o120000
            if not info.filename.endswith("/") and not link:
                yield name_of(info), archive.read(info)


def name_of(info):
    """Without the flag for UTF-8 the library takes names as code page 437."""
    name = info.filename if info.flag_bits & 0x800 else info.filename.encode("cp437").decode("utf-8")
    return plain(name)


def of_tar(path):
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isreg() or member.islnk():
                yield plain(member.name), archive.extractfile(member).read()


read = 0
while os.path.exists(f"{directory}/{read}.archive"):
    path = f"{directory}/{read}.archive"
    found = json.load(open(f"{directory}/{read}.json"))
    try:
        is_zip = open(path, "rb").read(2) == b"PK"
        expected = {}
        for name, content in of_zip(path) if is_zip else of_tar(path):
            if name is None:
                print(read, content)
            else:
                expected[name] = hashlib.sha256(content).hexdigest()
        for name in sorted(set(found) | set(expected)):
            if found.get(name) != expected.get(name):
                print(read, ascii(f"{name!r}: {found.get(name)} here, {expected.get(name)} there"))
    except Exception as error:
        print(read, ascii(f"can't be read: {error!r}"))
    read += 1
print("read", read)
