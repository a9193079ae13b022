use std::{
    collections::BTreeMap,
    io::{self, Seek, SeekFrom, Write},
};

const PAGE: usize = 4096;

/// What a file holds; holes cost nothing (a journal may be 64 MiB of them).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    length: u64,
    /// Pages with something other than zeros in them, by their number.
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl Content {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(0, bytes);
        content
    }

    pub(super) fn write(&mut self, offset: u64, mut data: &[u8]) {
        self.length = self.length.max(offset + data.len() as u64);
        let mut at = offset;
        while !data.is_empty() {
            let within = (at % PAGE as u64) as usize;
            let (now, later) = data.split_at(data.len().min(PAGE - within));
            let number = at / PAGE as u64;
            if self.pages.contains_key(&number) || now.iter().any(|byte| *byte != 0) {
                let page = self.pages.entry(number).or_insert_with(|| Box::new([0; PAGE]));
                page[within..within + now.len()].copy_from_slice(now);
                if page.iter().all(|byte| *byte == 0) {
                    self.pages.remove(&number);
                }
            }
            at += now.len() as u64;
            data = later;
        }
    }

    pub(super) fn truncate(&mut self, length: u64) {
        if length < self.length {
            let last = length / PAGE as u64;
            self.pages.split_off(&(last + 1));
            if let Some(page) = self.pages.get_mut(&last) {
                page[(length % PAGE as u64) as usize..].fill(0);
                if page.iter().all(|byte| *byte == 0) {
                    self.pages.remove(&last);
                }
            }
        }
        self.length = length;
    }

    pub(super) fn write_to(&self, file: &mut (impl Write + Seek)) -> io::Result<()> {
        for (number, page) in &self.pages {
            let start = number * PAGE as u64;
            let end = self.length.min(start + PAGE as u64);
            file.seek(SeekFrom::Start(start))?;
            file.write_all(&page[..(end - start) as usize])?;
        }
        Ok(())
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn bytes(content: &Content) -> Vec<u8> {
        let mut file = Cursor::new(vec![0; content.length() as usize]);
        content.write_to(&mut file).unwrap();
        file.into_inner()
    }

    #[test]
    fn writes_and_truncations_do_what_they_do_to_a_vector() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut content, mut vector) = (Content::default(), Vec::new());
        for _ in 0..2_000 {
            let at = random.usize(..5 * PAGE);
            if random.u8(..8) == 0 {
                content.truncate(at as u64);
                vector.resize(at, 0);
            } else {
                let data = vec![random.u8(..3); random.usize(..2 * PAGE)];
                content.write(at as u64, &data);
                vector.resize(vector.len().max(at + data.len()), 0);
                vector[at..at + data.len()].copy_from_slice(&data);
            }
            assert!(bytes(&content) == vector && content == Content::of(&vector));
        }
    }

    #[test]
    fn holes_cost_nothing() {
        let mut content = Content::default();
        content.truncate(1 << 40);
        content.write(1 << 39, &[0; 100]);
        assert!(content.pages.is_empty());
    }
}
