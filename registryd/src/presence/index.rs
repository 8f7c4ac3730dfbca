//! Which slot is an account's: a table by account number, in pages.
//!
//! Accounts are numbered one after the other and never anew, so a table costs four bytes for each account
//! of a page in which anybody has a session, whatever the holes, and a look-up is two reads without a hash.
//! A page that nobody is on is given back.
//!
//! Invariant: accounts have numbers below 2^32, more than one machine can hold; there is no entry for one
//! beyond, so no number from outside makes the table grow.

use super::slab::{NONE, SlotId};
use crate::store::AccountId;

/// Accounts of a page.
const PAGE: usize = 256;

/// One page of the table.
#[derive(Debug, Clone)]
struct Page {
    slots: [SlotId; PAGE],
    used: u16,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct SlotIndex {
    pages: Vec<Option<Box<Page>>>,
    len: usize,
}

impl SlotIndex {
    /// An account's slot.
    pub(super) fn get(&self, account: AccountId) -> Option<SlotId> {
        let (page, at) = place(account)?;
        let id = self.pages.get(page)?.as_ref()?.slots[at];
        (id != NONE).then_some(id)
    }

    /// Enters an account that has no slot. `false`: its number is out of range.
    pub(super) fn insert(&mut self, account: AccountId, id: SlotId) -> bool {
        let Some((page, at)) = place(account) else { return false };
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let empty = || Box::new(Page { slots: [NONE; PAGE], used: 0 });
        let page = self.pages[page].get_or_insert_with(empty);
        page.slots[at] = id;
        page.used += 1;
        self.len += 1;
        true
    }

    /// Takes an account out.
    pub(super) fn remove(&mut self, account: AccountId) -> Option<SlotId> {
        let id = self.get(account)?;
        let (page, at) = place(account)?;
        let entry = self.pages.get_mut(page)?;
        let page = entry.as_mut()?;
        page.slots[at] = NONE;
        page.used -= 1;
        if page.used == 0 {
            *entry = None;
        }
        self.len -= 1;
        Some(id)
    }

    /// How many accounts have a slot.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The memory of the table.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.pages.iter().flatten().count() * size_of::<Page>()
            + self.pages.capacity() * size_of::<Option<Box<Page>>>()
    }
}

fn place(account: AccountId) -> Option<(usize, usize)> {
    let number = u32::try_from(account.0).ok()? as usize;
    Some((number / PAGE, number % PAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_their_number_and_pages_given_back() {
        let mut index = SlotIndex::default();
        let accounts = [1, 2, 255, 256, 257, 70_000].map(AccountId);
        for (id, account) in (0..).zip(accounts) {
            assert!(index.insert(account, id));
        }
        for (id, account) in (0..).zip(accounts) {
            assert_eq!(index.get(account), Some(id));
        }
        assert_eq!((index.get(AccountId(3)), index.get(AccountId(60_000))), (None, None));
        assert_eq!(index.get(AccountId(1 << 40)), None);
        assert!(!index.insert(AccountId(1 << 40), 9));
        assert_eq!(index.len(), accounts.len());
        for (id, account) in (0..).zip(accounts) {
            assert_eq!(index.remove(account), Some(id));
            assert_eq!(index.remove(account), None);
        }
        assert_eq!((index.len(), index.pages.iter().flatten().count()), (0, 0));
    }
}
