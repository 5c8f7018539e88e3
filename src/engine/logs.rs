//! The output of a container as an engine sends it: both streams in frames, each with a head of eight bytes.

/// How long a frame's head is: the stream, three zeros, the length (big endian).
const HEAD: usize = 8;

/// The text of all frames. What has no frames (a container with a terminal) is left as it is.
pub fn without_frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len());
    while let Some((&[stream, 0, 0, 0, a, b, c, d], rest)) = bytes.split_first_chunk::<HEAD>()
        && stream <= 2
    {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let (frame, after) = rest.split_at(length.min(rest.len()));
        text.extend_from_slice(frame);
        bytes = after;
    }
    text.extend_from_slice(bytes);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_off() {
        let framed = b"\x01\0\0\0\0\0\0\x03ab\n\x02\0\0\0\0\0\0\x02c\n";
        assert_eq!(without_frames(framed), b"ab\nc\n");
        assert_eq!(without_frames(b"no frames at all\n"), b"no frames at all\n");
        // Cut in the middle of a frame: what came is told.
        assert_eq!(without_frames(&framed[..10]), b"ab");
        assert_eq!(without_frames(b"\x01\0\0\0\xff\xff\xff\xffx"), b"x");
    }
}
