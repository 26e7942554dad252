//! Lines and columns, as editors count them.

/// Where the lines of a text begin.
pub(super) struct Places<'a> {
    text: &'a str,
    begins: Vec<usize>,
}

impl<'a> Places<'a> {
    pub(super) fn of(text: &'a str) -> Places<'a> {
        Places { text, begins: std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect() }
    }

    /// Line and column of an offset, both from 1.
    pub(super) fn place(&self, at: usize) -> (usize, usize) {
        let line = self.begins.partition_point(|begin| *begin <= at).max(1);
        let begin = self.begins[line - 1];
        (line, self.text.get(begin..at.min(self.text.len())).map_or(1, |before| before.chars().count() + 1))
    }

    /// Line and column behind the last character.
    pub(super) fn end(&self) -> (usize, usize) {
        self.place(self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let places = Places::of("a\nbä = 1\n");
        assert_eq!([places.place(0), places.place(1), places.place(2), places.place("a\nbä".len())], [(1, 1), (1, 2), (2, 1), (2, 3)]);
        assert_eq!(places.end(), (3, 1));
    }
}
