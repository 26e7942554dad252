//! Bytes as an HTTP/1.1 response. No I/O: whoever has bytes asks whether they are a response yet.

use super::failure::Failure;

/// Most header fields that a response may have: more than any framework sends by itself.
const HEADERS_MAX: usize = 32;

/// Longest response, head included: the longest echo and room for its head.
const RESPONSE_MAX: usize = 65_536;

/// A complete response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Response {
    /// Its status.
    pub(super) status: u16,
    /// Whether the server keeps the connection.
    pub(super) keep_alive: bool,
    /// Its body, without any coding of the transfer.
    pub(super) body: Vec<u8>,
}

/// How the end of a body is known.
enum Framing {
    Length(usize),
    Chunked,
}

impl Response {
    /// `None`: more bytes are needed. Bytes after the response are wrong, since nobody asked for more than one.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Response>, Failure> {
        let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut fields);
        let start = match head.parse(bytes) {
            Ok(httparse::Status::Complete(start)) => start,
            Ok(httparse::Status::Partial) if bytes.len() < RESPONSE_MAX => return Ok(None),
            Ok(httparse::Status::Partial) | Err(_) => return Err(Failure::Malformed),
        };
        let (framing, keep_alive) = framing(&head)?;
        let body = match framing {
            Framing::Length(length) if length > RESPONSE_MAX => return Err(Failure::Malformed),
            Framing::Length(length) => bytes.get(start..start + length).map(|body| (body.to_vec(), start + length)),
            Framing::Chunked => chunked(bytes, start)?,
        };
        match body {
            None => Ok(None),
            Some((_, end)) if end != bytes.len() => Err(Failure::Malformed),
            Some((body, _)) => Ok(Some(Response { status: head.code.unwrap_or(0), keep_alive, body })),
        }
    }
}

fn framing(head: &httparse::Response<'_, '_>) -> Result<(Framing, bool), Failure> {
    let mut framing = None;
    let mut keep_alive = head.version == Some(1);
    for field in &*head.headers {
        let value = std::str::from_utf8(field.value).map_err(|_| Failure::Malformed)?.trim();
        if field.name.eq_ignore_ascii_case("content-length") {
            framing = Some(Framing::Length(value.parse().map_err(|_| Failure::Malformed)?));
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            framing = Some(Framing::Chunked);
        } else if field.name.eq_ignore_ascii_case("connection") {
            keep_alive &= !value.eq_ignore_ascii_case("close");
        }
    }
    // A body that ends with the connection could be cut without anybody noticing.
    Ok((framing.ok_or(Failure::Malformed)?, keep_alive))
}

/// The body and where it ends.
fn chunked(bytes: &[u8], mut at: usize) -> Result<Option<(Vec<u8>, usize)>, Failure> {
    let mut body = Vec::new();
    loop {
        let (line, length) = match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(httparse::Status::Complete((line, length))) => (line, usize::try_from(length).unwrap_or(usize::MAX)),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Failure::Malformed),
        };
        if length > RESPONSE_MAX {
            return Err(Failure::Malformed);
        }
        let end = at + line + length;
        match bytes.get(end..end + 2) {
            None => return Ok(None),
            Some(b"\r\n") => body.extend_from_slice(&bytes[at + line..end]),
            Some(_) => return Err(Failure::Malformed),
        }
        at = end + 2;
        if length == 0 {
            return Ok(Some((body, at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";

    #[test]
    fn a_response_is_complete_at_its_last_byte_and_not_before() {
        for (bytes, keep_alive) in [(LENGTH, false), (CHUNKED, true)] {
            for cut in 0..bytes.len() {
                assert_eq!(Response::parse(&bytes[..cut]), Ok(None), "cut at {cut}");
            }
            assert_eq!(Response::parse(bytes), Ok(Some(Response { status: 200, keep_alive, body: b"hello".to_vec() })));
        }
    }

    #[test]
    fn bytes_after_a_response_are_malformed() {
        for bytes in [LENGTH, CHUNKED] {
            assert_eq!(Response::parse(&[bytes, b"x"].concat()), Err(Failure::Malformed));
        }
    }

    #[test]
    fn a_body_without_an_end_of_its_own_is_malformed() {
        assert_eq!(Response::parse(b"HTTP/1.1 200 OK\r\n\r\nhello"), Err(Failure::Malformed));
    }

    #[test]
    fn what_is_no_http_is_malformed() {
        assert_eq!(Response::parse(b"SSH-2.0-x\r\n"), Err(Failure::Malformed));
    }
}
