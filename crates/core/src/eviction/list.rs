//! Lists by recency, linked through one vector.

use std::ops::Range;

use super::policy::EntryId;

/// End of a list, in either direction.
const NIL: EntryId = EntryId::MAX;

/// Objects passed over in one search because they can't be evicted, at most: what a search costs beyond its
/// victims. One that finds nothing by then finds nothing; the next one goes on from there.
pub(super) const SKIPS_MAX: usize = 1 << 16;

/// Neighbours of one object; towards the cold end and towards the hot end.
#[derive(Clone, Copy, Debug)]
struct Link {
    colder: EntryId,
    hotter: EntryId,
}

/// The neighbours of every object, whichever list it is in: eight bytes per object.
#[derive(Debug, Default)]
pub(super) struct Links(Vec<Link>);

/// One list. An object is in one list at most among those that share their [`Links`].
///
/// Objects in use gather at the cold end of a cache under pressure. A search does not begin with them every
/// time: it goes on where the last one ended, and begins anew once it has looked at as many objects as it
/// leaves behind. So an object is looked at twice at most for every time it has to be, and one that is free
/// again is found soon.
#[derive(Debug)]
pub(super) struct List {
    coldest: EntryId,
    hottest: EntryId,
    len: usize,
    /// Where the next search begins; [`NIL`] for the cold end.
    resume: EntryId,
    /// Objects between the cold end and `resume`, at most.
    skipped: usize,
    /// Objects looked at since the last search from the cold end reached `resume`.
    examined: usize,
}

impl Default for List {
    fn default() -> Self {
        Self { coldest: NIL, hottest: NIL, len: 0, resume: NIL, skipped: 0, examined: 0 }
    }
}

impl List {
    /// Objects in the list.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an object at the hot end.
    pub(super) fn insert(&mut self, links: &mut Links, id: EntryId) {
        if links.0.len() <= id as usize {
            links.0.resize(id as usize + 1, Link { colder: NIL, hotter: NIL });
        }
        self.link_hottest(links, id);
        self.len += 1;
    }

    /// Moves an object of the list to the hot end.
    pub(super) fn touch(&mut self, links: &mut Links, id: EntryId) {
        if self.hottest != id {
            self.unlink(links, id);
            self.link_hottest(links, id);
        }
    }

    /// Takes an object out of the list.
    pub(super) fn remove(&mut self, links: &mut Links, id: EntryId) {
        self.unlink(links, id);
        self.len -= 1;
    }

    /// Up to `want` evictable objects, coldest first, after at most [`SKIPS_MAX`] that are not.
    pub(super) fn victims(
        &mut self,
        links: &Links,
        evictable: &mut dyn FnMut(EntryId) -> bool,
        want: usize,
    ) -> Vec<EntryId> {
        let first = self.start();
        let resumed = first != self.coldest;
        let search = links.search(first..NIL, want, SKIPS_MAX, evictable);
        if resumed && search.end == NIL && search.victims.len() < want {
            // Only what was left behind can still be free.
            self.resume = NIL;
            let skips_left = SKIPS_MAX - search.skips;
            let behind =
                links.search(self.coldest..first, want - search.victims.len(), skips_left, evictable);
            return [behind.victims, search.victims].concat();
        }
        if search.leading_skips > 0 {
            // The next search need not look again at what was passed over before the first victim.
            self.resume = search.victims.first().copied().unwrap_or(search.end);
            self.skipped += search.leading_skips;
        }
        if resumed {
            self.examined += search.skips + search.victims.len();
        }
        search.victims
    }

    /// The objects of the list, coldest first.
    pub(super) fn iter<'a>(&self, links: &'a Links) -> impl Iterator<Item = EntryId> + use<'a> {
        let listed = |id: EntryId| (id != NIL).then_some(id);
        std::iter::successors(listed(self.coldest), move |id| listed(links.0[*id as usize].hotter))
    }

    fn unlink(&mut self, links: &mut Links, id: EntryId) {
        let Link { colder, hotter } = links.0[id as usize];
        match colder {
            NIL => self.coldest = hotter,
            _ => links.0[colder as usize].hotter = hotter,
        }
        match hotter {
            NIL => self.hottest = colder,
            _ => links.0[hotter as usize].colder = colder,
        }
        if self.resume == id {
            self.resume = hotter;
        }
    }

    fn link_hottest(&mut self, links: &mut Links, id: EntryId) {
        links.0[id as usize] = Link { colder: self.hottest, hotter: NIL };
        match self.hottest {
            NIL => self.coldest = id,
            hottest => links.0[hottest as usize].hotter = id,
        }
        self.hottest = id;
    }

    /// Where a search begins.
    fn start(&mut self) -> EntryId {
        if self.resume == NIL || self.examined >= self.skipped {
            (self.resume, self.skipped, self.examined) = (NIL, 0, 0);
            return self.coldest;
        }
        self.resume
    }
}

impl Links {
    /// Looks at the objects of a range of a list until it has what it wants.
    fn search(
        &self,
        range: Range<EntryId>,
        want: usize,
        skips_max: usize,
        evictable: &mut dyn FnMut(EntryId) -> bool,
    ) -> Search {
        let mut found = Search { victims: Vec::new(), end: range.start, skips: 0, leading_skips: 0 };
        while found.end != range.end && found.victims.len() < want && found.skips < skips_max {
            if evictable(found.end) {
                found.victims.push(found.end);
            } else {
                found.skips += 1;
                found.leading_skips += usize::from(found.victims.is_empty());
            }
            found.end = self.0[found.end as usize].hotter;
        }
        found
    }
}

/// What a search found, and where it ended.
struct Search {
    victims: Vec<EntryId>,
    /// The first object not looked at.
    end: EntryId,
    skips: usize,
    /// Of the skips, those before the first victim.
    leading_skips: usize,
}
