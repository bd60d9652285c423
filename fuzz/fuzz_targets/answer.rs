//! What GitHub and S3 answer: a status, headers (with their limits and delays), an empty line, a body.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

libfuzzer_sys::fuzz_target!(|raw: &[u8]| {
    let end = raw.windows(2).position(|pair| pair == b"\n\n").unwrap_or(raw.len());
    let (head, body) = (&raw[..end], raw.get(end + 2..).unwrap_or_default());
    let mut lines = head.split(|byte| *byte == b'\n');
    let Ok(status) = StatusCode::from_bytes(lines.next().unwrap_or_default()) else { return };
    let mut headers = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = (&line[..colon], line.get(colon + 1..).unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    opendepot::github::fuzzing::answer(status, &headers, body);
    opendepot::storage::fuzzing::answer(status.as_u16(), &headers, &String::from_utf8_lossy(body));
});
