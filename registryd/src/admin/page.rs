//! Pages of lists: how many items are read, and what the page after them begins with.

use super::request::{PAGE_MAX, Page};

impl<K> Page<K> {
    /// So many items go into the page.
    fn items_max(&self) -> u32 {
        self.limit.clamp(1, PAGE_MAX)
    }

    /// So many are read: one more shows whether there is another page.
    pub(super) fn rows_max(&self) -> u32 {
        self.items_max() + 1
    }

    /// Cuts what was read to the page, and returns the key of its last item if more follow.
    pub(super) fn cut<T, N>(&self, rows: &mut Vec<T>, key: impl Fn(&T) -> N) -> Option<N> {
        let items_max = self.items_max() as usize;
        if rows.len() <= items_max {
            return None;
        }
        rows.truncate(items_max);
        rows.last().map(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_page_has_no_next_even_if_it_is_full() {
        let page = Page::<u64> { after: None, limit: 2 };
        let mut rows = vec![1, 2, 3];
        assert_eq!(page.cut(&mut rows, |row| *row), Some(2));
        assert_eq!(rows, [1, 2]);
        assert_eq!(page.cut(&mut rows, |row| *row), None);
        assert_eq!(Page::<u64> { after: None, limit: 0 }.rows_max(), 2);
        assert_eq!(Page::<u64> { after: None, limit: u32::MAX }.rows_max(), PAGE_MAX + 1);
    }
}
