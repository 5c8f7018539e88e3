//! What hostile servers of packages say and do, each with words of the cause by which a download fails.

use std::time::Duration;

use crate::server::Step;

/// The whole package, as `ok` would send it.
pub fn package() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for name in ["bin/run", "conf"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(name.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, name.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The head of an answer, and a body.
pub fn answer(status: &str, head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status}\r\n{head}\r\n").as_bytes(), body].concat()
}

fn chunk(size: &str, body: &[u8]) -> Vec<u8> {
    [size.as_bytes(), b"\r\n", body, b"\r\n"].concat()
}

/// Raw answers, each with words of the cause; empty: the package has to be taken, byte for byte.
pub fn answers() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let p = package();
    let length = format!("Content-Length: {}\r\n", p.len());
    let chunked = "Transfer-Encoding: chunked\r\n";
    let size = format!("{:x}", p.len());
    let whole = [chunk(&size, &p), chunk("0", b"")].concat();
    let gzip_bomb = {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 9 << 20), &mut gz).unwrap();
        gz.finish().unwrap()
    };
    let bomb = format!("Content-Encoding: gzip\r\nContent-Length: {}\r\n", gzip_bomb.len());
    let many = "X-Many: y\r\n".repeat(5000);
    let continues = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(5000);
    let status =
        |status: &str| answer(status, "Retry-After: 86400\r\nContent-Length: 15\r\n", b"<html>no</html>");
    let to = |location: &str| {
        answer(
            "302 Found",
            &format!("Location: {location}\r\nConnection: close\r\nContent-Length: 0\r\n"),
            b"",
        )
    };
    let ok = |head: &str| answer("200 OK", head, &p);
    vec![
        ("ok", ok(&length), ""),
        ("ok, chunked", answer("200 OK", chunked, &whole), ""),
        ("ok, to the end of the connection", ok(""), ""),
        (
            "a file name that leads up",
            ok(&format!("Content-Disposition: attachment; filename=\"../../x\"\r\n{length}")),
            "",
        ),
        ("an encoding that nobody asked for", ok(&format!("Content-Encoding: gzip\r\n{length}")), ""),
        (
            "a second answer behind it",
            [ok(&length), answer("200 OK", "Content-Length: 3\r\n", b"PK!")].concat(),
            "",
        ),
        (
            "a bomb",
            answer("200 OK", &bomb, &gzip_bomb),
            "the archive is refused: it holds more than 8388608 bytes",
        ),
        ("garbage", (0..=255).collect(), "after 6 tries"),
        ("nothing", Vec::new(), "after 6 tries"),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "after 6 tries"),
        ("HTTP/0.9", b"<html>hi</html>".to_vec(), "after 6 tries"),
        ("HTTP/9.9", b"HTTP/9.9 200 OK\r\n\r\n".to_vec(), "after 6 tries"),
        ("another protocol", answer("101 Switching Protocols", "Upgrade: websocket\r\n", b""), "answers 101"),
        ("cut in its head", b"HTTP/1.1 200 OK\r\nContent-Le".to_vec(), "after 6 tries"),
        (
            "a head of 1 MiB",
            answer("200 OK", &format!("X: {}\r\n", "a".repeat(1 << 20)), b""),
            "after 6 tries",
        ),
        ("5000 headers", answer("200 OK", &many, &p), "after 6 tries"),
        ("5000 times 100", [continues, ok(&length)].concat(), ""),
        ("a NUL in its head", answer("200 OK", "X: a\0b\r\n", &p), "after 6 tries"),
        (
            "an escape sequence in its head",
            answer("500 \u{1b}]0;x\u{7}\u{1b}[[2J", "Content-Length: 0\r\n", b""),
            "after 6 tries",
        ),
        ("a line in its status", b"HTTP/1.1 500 x\rfoo\r\n\r\n".to_vec(), "after 6 tries"),
        ("longer than it comes", answer("200 OK", "Content-Length: 25500\r\n", &p), "after 6 tries"),
        ("shorter than it is", answer("200 OK", "Content-Length: 1024\r\n", &p), "its end is missing"),
        ("no length at all", answer("200 OK", "Content-Length: 0\r\n", &p), "it looks like an empty file"),
        ("a negative length", answer("200 OK", "Content-Length: -1\r\n", &p), "after 6 tries"),
        ("two lengths", answer("200 OK", &format!("{length}Content-Length: 5\r\n"), &p), "after 6 tries"),
        (
            "8 EiB",
            answer("200 OK", "Content-Length: 9223372036854775807\r\n", &p),
            "larger than 1048576 bytes",
        ),
        ("16 EiB", answer("200 OK", "Content-Length: 18446744073709551616\r\n", &p), "after 6 tries"),
        ("chunks and a length", answer("200 OK", &format!("{length}{chunked}"), &whole), ""),
        ("a chunk of no size", answer("200 OK", chunked, &chunk("zz", &p)), "after 6 tries"),
        ("a chunk that is cut", answer("200 OK", chunked, &chunk("fffff", &p)), "after 6 tries"),
        ("a chunk without end", answer("200 OK", chunked, &chunk(&size, &p)), "after 6 tries"),
        ("a huge chunk", answer("200 OK", chunked, &chunk("ffffffffffffffffff", &p)), "after 6 tries"),
        ("an error page", answer("200 OK", "Content-Length: 18\r\n", b"<html>login</html>"), "a web page"),
        (
            "a part nobody asked for",
            answer("206 Partial Content", &format!("Content-Range: bytes 0-9/10\r\n{length}"), &p),
            "another part",
        ),
        ("204", answer("204 No Content", "", b""), "answers 204"),
        ("304", answer("304 Not Modified", "", b""), "answers 304"),
        ("400", status("400 X"), "answers 400"),
        ("401", status("401 X"), "answers 401"),
        ("403", status("403 X"), "answers 403"),
        ("404", status("404 X"), "answers 404"),
        ("407", status("407 X"), "answers 407"),
        ("418", status("418 X"), "answers 418"),
        ("429", status("429 X"), "the last try: the server answers 429"),
        ("500", status("500 X"), "the last try: the server answers 500"),
        ("502", status("502 X"), "the last try: the server answers 502"),
        ("503", status("503 X"), "the last try: the server answers 503"),
        ("to itself", to("/x"), "more than 5 times"),
        ("to nowhere", answer("302 Found", "Content-Length: 0\r\n", b""), "says nothing about where"),
        ("to an empty place", to(""), "more than 5 times"),
        ("to a file", to("file:///etc/shadow"), "not allowed"),
        ("to a socket", to("unix:///run/deployd/deployd.sock"), "not allowed"),
        ("to the metadata", to("http://169.254.169.254/latest/"), "packages.allowedUris forbids"),
        ("to another port", to("http://127.0.0.1:1/x"), "packages.allowedUris forbids"),
        ("to another host", to("//localhost/x"), "packages.allowedUris forbids"),
        ("with credentials", to("http://user:S3CR3T@127.0.0.1/"), "packages.allowedUris forbids"),
        ("to a control character", to("http://h/\u{1}"), "after 6 tries"),
        ("to a long place", to(&format!("/{}", "a".repeat(6000))), "more than 5 times"),
    ]
}

/// What a server does on the connection of that number, whose request has this head.
pub type Script = Box<dyn Fn(usize, &str) -> Vec<Step> + Send + Sync>;

/// What a server does on its connections, each with words of the cause; empty: the package is taken.
pub fn timed() -> Vec<(&'static str, Script, &'static str)> {
    let p = package();
    let (half, rest) = (p[..p.len() / 2].to_vec(), p[p.len() / 2..].to_vec());
    let head = |more: &str| answer("200 OK", &format!("Content-Length: {}\r\n{more}", package().len()), b"");
    let part = |tag: &str, length: usize| {
        let range =
            format!("Content-Range: bytes {length}-\r\nContent-Length: {length}\r\nETag: \"{tag}\"\r\n");
        answer("206 Partial Content", &range, b"")
    };
    let begun = [head("ETag: \"1\"\r\n"), half.clone()].concat();
    let other = vec![b'x'; half.len()];
    let chunked = answer("200 OK", "Transfer-Encoding: chunked\r\n", b"");
    let once = |first: Vec<u8>, then: Vec<u8>| {
        move |number: usize, _: &str| vec![Step::Say(if number == 0 { first.clone() } else { then.clone() })]
    };
    let always = |steps: Vec<Step>| move |_: usize, _: &str| steps.clone();
    let drip = Duration::from_millis(20);
    vec![
        ("stalls before its head", Box::new(always(vec![Step::Stall])), "0 bytes had come"),
        (
            "stalls in its head",
            Box::new(always(vec![Step::Say(b"HTTP/1.1 200 OK\r\nContent-".to_vec()), Step::Stall])),
            "0 bytes had come",
        ),
        (
            "stalls in its body",
            Box::new(always(vec![Step::Say(begun.clone()), Step::Stall])),
            "bytes had come; the last try: operation timed out",
        ),
        (
            "stalls in a chunk",
            Box::new(always(vec![
                Step::Say([chunked.clone(), b"fff\r\n".to_vec(), half.clone()].concat()),
                Step::Stall,
            ])),
            "bytes had come",
        ),
        (
            "drips its head",
            Box::new(always(vec![
                Step::Say(b"HTTP/1.1 200 OK\r\n".to_vec()),
                Step::Repeat(b"X: y\r\n".to_vec(), drip),
            ])),
            "raise timeouts.fetch",
        ),
        (
            "drips its body",
            Box::new(always(vec![
                Step::Say(answer("200 OK", "Content-Length: 100000\r\n", b"")),
                Step::Repeat(b"x".to_vec(), drip),
            ])),
            "it takes longer than 6 s",
        ),
        (
            "a body without end",
            Box::new(always(vec![
                Step::Say(answer("200 OK", "", b"")),
                Step::Repeat(vec![b'x'; 65_536], Duration::ZERO),
            ])),
            "larger than 1048576 bytes",
        ),
        (
            "chunks without end",
            Box::new(always(vec![
                Step::Say(chunked),
                Step::Repeat(chunk("10000", &[0; 65_536]), Duration::ZERO),
            ])),
            "larger than 1048576 bytes",
        ),
        (
            "100 again and again",
            Box::new(always(vec![Step::Repeat(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), drip)])),
            "raise timeouts.fetch",
        ),
        (
            "is cut, and goes on",
            Box::new(once(begun.clone(), [part("1", half.len()), rest.clone()].concat())),
            "",
        ),
        (
            "is cut, and begins anew",
            Box::new(once(begun.clone(), [head("ETag: \"2\"\r\n"), p.clone()].concat())),
            "",
        ),
        (
            "is cut, and goes on with another file",
            Box::new(move |number, asked: &str| {
                let part = asked.contains("range:").then(|| [part("2", other.len()), other.clone()].concat());
                let first = number == 0;
                let whole = [head(""), package()].concat();
                vec![Step::Say(if first { begun.clone() } else { part.unwrap_or(whole) })]
            }),
            "",
        ),
        (
            "redirects for ever, to new places",
            Box::new(|number, _| {
                let to = format!("Location: /{number}\r\nConnection: close\r\nContent-Length: 0\r\n");
                vec![Step::Say(answer("302 Found", &to, b""))]
            }),
            "more than 5 times",
        ),
    ]
}
