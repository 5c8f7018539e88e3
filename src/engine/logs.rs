//! The output of a container as an engine sends it: both streams in frames, each with a head of eight bytes.

/// How long a frame's head is: the stream, three zeros, the length (big endian).
const HEAD: usize = 8;
/// Maximum length of the text that is kept: the end of it.
const KEPT: usize = 1 << 20;

/// The text of all frames, as it comes; its end is kept. What has no frames (a container with a terminal) is text
/// as it stands.
#[derive(Default)]
pub(super) struct Output {
    text: Vec<u8>,
    /// The beginning of a head.
    head: Vec<u8>,
    /// How much of the frame is still to come.
    rest: usize,
    /// There are no frames.
    is_plain: bool,
}

impl Output {
    /// The next bytes.
    pub fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.is_plain || self.rest > 0 {
                let length = if self.is_plain { bytes.len() } else { self.rest.min(bytes.len()) };
                let (text, after) = bytes.split_at(length);
                self.keep(text);
                self.rest = self.rest.saturating_sub(length);
                bytes = after;
                continue;
            }
            let (head, after) = bytes.split_at(bytes.len().min(HEAD - self.head.len()));
            self.head.extend_from_slice(head);
            bytes = after;
            match self.head[..] {
                [stream @ 0..=2, 0, 0, 0, a, b, c, d] => {
                    let _ = stream;
                    self.rest = u32::from_be_bytes([a, b, c, d]) as usize;
                    self.head.clear();
                }
                [0..=2] | [0..=2, 0] | [0..=2, 0, 0] | [0..=2, 0, 0, 0, ..] => {}
                _ => {
                    self.is_plain = true;
                    let head = std::mem::take(&mut self.head);
                    self.keep(&head);
                }
            }
        }
    }

    /// The end of the text.
    pub fn into_text(self) -> Vec<u8> {
        self.text
    }

    fn keep(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
        if self.text.len() > 2 * KEPT {
            self.text.drain(..self.text.len() - KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], step: usize) -> Vec<u8> {
        let mut output = Output::default();
        bytes.chunks(step).for_each(|chunk| output.take(chunk));
        output.into_text()
    }

    #[test]
    fn frames_are_taken_off_wherever_they_are_cut() {
        let framed = b"\x01\0\0\0\0\0\0\x03ab\n\x02\0\0\0\0\0\0\x02c\n";
        for step in 1..framed.len() {
            assert_eq!(read(framed, step), b"ab\nc\n", "in steps of {step}");
            assert_eq!(read(b"no frames at all\n", step), b"no frames at all\n");
        }
        // Cut in the middle of a frame: what came is told.
        assert_eq!(read(&framed[..10], 10), b"ab");
        assert_eq!(read(b"\x01\0\0\0\xff\xff\xff\xffx", 3), b"x");
    }

    #[test]
    fn of_endless_output_the_end_is_kept() {
        let mut output = Output::default();
        for _ in 0..100 {
            output.take(b"\x01\0\0\0\0\x01\0\0");
            output.take(&vec![b'x'; 1 << 16]);
        }
        output.take(b"\x01\0\0\0\0\0\0\x04end\n");
        let text = output.into_text();
        assert!(text.len() <= 2 * KEPT && text.ends_with(b"xend\n"));
    }
}
