//! Bytes as people and vectors write them.

/// The bytes of hexadecimal text, in which spaces are free. `None`: something else is in it, or half a byte.
///
/// ```
/// use dutch_master_protocol::hex;
/// assert_eq!(hex::bytes("00 ff\n10"), Some(vec![0, 255, 16]));
/// assert_eq!((hex::bytes("0"), hex::bytes("0x")), (None, None));
/// ```
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.chars().filter(|c| !c.is_whitespace()).map(|c| u8::try_from(c.to_digit(16)?).ok());
    let digits = digits.collect::<Option<Vec<u8>>>()?;
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
