//! Halves of characters in JSON: an escape such as `\\ud800` alone is valid JSON, and no text.

use std::borrow::Cow;

/// The JSON with U+FFFD in place of each half of a character. Else one of them fails all that it came with, such as a page.
pub(super) fn mended(json: &[u8]) -> Cow<'_, [u8]> {
    if !json.windows(3).any(|three| three[0] == b'\\' && three[1] == b'u' && three[2].eq_ignore_ascii_case(&b'd')) {
        return Cow::Borrowed(json);
    }
    let mut mended = json.to_vec();
    let mut at = 0;
    while at < json.len() {
        if json[at] != b'\\' {
            at += 1;
            continue;
        }
        at += match unit(json, at) {
            Some(0xd800..=0xdbff) if matches!(unit(json, at + 6), Some(0xdc00..=0xdfff)) => 12,
            Some(0xd800..=0xdfff) => {
                mended[at + 2..at + 6].copy_from_slice(b"fffd");
                6
            }
            Some(_) => 6,
            None => 2,
        };
    }
    Cow::Owned(mended)
}

/// What the escape there stands for, if it is one of four digits.
fn unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_replaced_and_whole_characters_are_kept() {
        for (json, expected) in [
            (r#""\ud800""#, r#""\ufffd""#),
            (r#""a\uDFFFb\uD83D""#, r#""a\ufffdb\ufffd""#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\\ud800""#, r#""\\ud800""#),
            (r#""\ud8"#, r#""\ud8"#),
            (r#""\u00e4\ud""#, r#""\u00e4\ud""#),
        ] {
            assert_eq!(mended(json.as_bytes()), expected.as_bytes(), "{json}");
        }
    }
}
