//! What a terminal shows: as much of one as the program makes use of.

/// Rows of characters. Escape sequences that only colour are skipped.
pub(crate) struct Screen {
    rows: Vec<Vec<char>>,
    at: (usize, usize),
    sequence: Option<String>,
    /// The bytes of a character that has not come whole.
    bytes: Vec<u8>,
}

impl Screen {
    pub(crate) fn new(columns: usize, rows: usize) -> Screen {
        Screen { rows: vec![vec![' '; columns]; rows], at: (0, 0), sequence: None, bytes: Vec::new() }
    }

    pub(crate) fn text(&self) -> String {
        self.rows.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned() + "\n").collect()
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let whole = match std::str::from_utf8(&self.bytes) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let rest = self.bytes.split_off(whole);
        let text = String::from_utf8(std::mem::replace(&mut self.bytes, rest)).unwrap();
        text.chars().for_each(|c| self.put(c));
    }

    fn put(&mut self, c: char) {
        match (&mut self.sequence, c) {
            (None, '\u{1b}') => self.sequence = Some(String::new()),
            (None, '\r') => self.at.1 = 0,
            (None, '\n') => self.at.0 += 1,
            (None, _) => {
                let (row, column) = self.at;
                if let Some(cell) = self.rows.get_mut(row).and_then(|row| row.get_mut(column)) {
                    *cell = c;
                }
                self.at.1 += 1;
            }
            (Some(sequence), c) => {
                sequence.push(c);
                if c.is_ascii_alphabetic() || (sequence.len() == 1 && c != '[') {
                    let sequence = self.sequence.take().unwrap_or_default();
                    self.obey(&sequence);
                }
            }
        }
    }

    fn obey(&mut self, sequence: &str) {
        if let Some(place) = sequence.strip_prefix('[').and_then(|rest| rest.strip_suffix('H')) {
            let mut numbers = place.split(';').map(|number| number.parse::<usize>().unwrap_or(1) - 1);
            self.at = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        } else if sequence == "[2J" {
            self.rows.iter_mut().flatten().for_each(|cell| *cell = ' ');
        }
    }
}
