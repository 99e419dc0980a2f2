//! What the objects of each model look like, rank by rank, and which engine a scheduler belongs to.
//!
//! Neither is on the wire: a registration does not say its worker's rank, and a lookup does not say whose
//! scheduler asks (`spec/mp-protocol.md` 3.2, 3.3). A worker's rank is learned from its first transfer.
//! Engines are told apart by what their objects look like; a scheduler's is the one there was when it first
//! looked up, or the one whose workers transfer under its requests.

use std::sync::Arc;

use hashbrown::HashMap;
use larder_core::cache::Row;
use larder_core::key::{KeyError, Namespace, Scope, kv_rank};
use larder_core::layout::ObjectLayout;

use super::connections::ConnectionId;
use super::registration::Registration;

/// Most kinds of engine that one lookup of an unknown scheduler is tried for: the latest. Of the rest nothing
/// is found.
const KINDS_TRIED_MAX: usize = 4;

/// Most kinds of engine of one model and world size; a lookup may look at each. More are refused.
const KINDS_MAX: usize = 64;

/// Most layouts of one kind of engine beside one for each rank; a lookup looks at each. More are refused.
const SPARE_LAYOUTS_MAX: usize = 64;

/// Most models remembered per scheduler; one engine has one. The oldest is forgotten.
const MODELS_PER_SCHEDULER_MAX: usize = 8;

/// What the objects of an engine look like: a layout for each rank.
#[derive(Clone, Debug)]
pub(crate) struct EngineLayouts {
    /// The model, as its workers share it.
    pub model_name: Arc<str>,
    world_size: u32,
    /// Ranks whose layout is known, ascending.
    of_rank: Vec<(u32, Arc<ObjectLayout>)>,
    /// For the other ranks.
    rest: Arc<ObjectLayout>,
}

impl EngineLayouts {
    /// The rows of a lookup, one per rank. Engine-driven objects are all in group 0.
    pub(crate) fn rows(&self, cache_salt: &str) -> Result<Arc<[Row]>, KeyError> {
        let namespace = Namespace::new(Arc::clone(&self.model_name), 0, 0, cache_salt)?;
        let row = |rank| {
            let known = self.of_rank.binary_search_by_key(&rank, |&(rank, _)| rank);
            let layout = known.map_or(&self.rest, |index| &self.of_rank[index].1);
            let namespace = namespace.with_kv_rank(kv_rank(self.world_size, rank));
            let scope = Scope { namespace, layout: Arc::clone(layout) };
            Row { scope, rank, window: None }
        };
        Ok((0..self.world_size).map(row).collect())
    }
}

/// Workers that registered one layout and, as far as is known, hold one rank.
#[derive(Debug)]
struct Workers {
    rank: Option<u32>,
    layout: Arc<ObjectLayout>,
    count: usize,
}

/// Engines of one model and world size whose objects look alike but for the layers of their stages; never
/// without workers.
#[derive(Debug)]
struct Kind {
    /// Latest registration last.
    workers: Vec<Workers>,
}

impl Kind {
    fn includes(&self, layout: &ObjectLayout) -> bool {
        self.workers.first().is_some_and(|workers| workers.layout.is_stage_of(layout))
    }

    /// Whether a worker without a rank has this layout.
    fn knows(&self, layout: &ObjectLayout) -> bool {
        self.workers.iter().any(|workers| workers.rank.is_none() && *workers.layout == *layout)
    }

    fn layouts(&self, world: &World) -> Option<EngineLayouts> {
        let mut of_rank: Vec<(u32, Arc<ObjectLayout>)> = Vec::new();
        for workers in self.workers.iter().rev() {
            let Some(rank) = workers.rank else { continue };
            if let Err(index) = of_rank.binary_search_by_key(&rank, |&(rank, _)| rank) {
                of_rank.insert(index, (rank, Arc::clone(&workers.layout)));
            }
        }
        let unranked = self.workers.iter().rev().find(|workers| workers.rank.is_none());
        let rest = unranked.or(self.workers.last())?;
        Some(EngineLayouts {
            model_name: Arc::clone(&world.model_name),
            world_size: world.world_size,
            of_rank,
            rest: Arc::clone(&rest.layout),
        })
    }

    fn add(&mut self, rank: Option<u32>, layout: &Arc<ObjectLayout>) {
        let same = |workers: &&mut Workers| workers.rank == rank && workers.layout == *layout;
        match self.workers.iter_mut().find(same) {
            Some(workers) => workers.count += 1,
            None => self.workers.push(Workers { rank, layout: Arc::clone(layout), count: 1 }),
        }
    }

    fn remove(&mut self, rank: Option<u32>, layout: &ObjectLayout) {
        let same = |workers: &Workers| workers.rank == rank && *workers.layout == *layout;
        let Some(index) = self.workers.iter().position(same) else { return };
        self.workers[index].count -= 1;
        if self.workers[index].count == 0 {
            self.workers.remove(index);
        }
    }
}

/// Engines of one model and world size.
#[derive(Debug)]
struct World {
    model_name: Arc<str>,
    world_size: u32,
    /// Latest kind last.
    kinds: Vec<Kind>,
}

/// What a scheduler is known to look for.
#[derive(Debug)]
struct Allegiance {
    model_name: Arc<str>,
    world_size: u32,
    /// A layout of its engine.
    layout: Arc<ObjectLayout>,
}

impl Allegiance {
    fn is_to(&self, model_name: &str, world_size: u32) -> bool {
        self.world_size == world_size && *self.model_name == *model_name
    }
}

/// The layouts of all registered workers, and what schedulers look for.
#[derive(Debug, Default)]
pub(crate) struct Layouts {
    worlds: HashMap<Arc<str>, Vec<World>>,
    schedulers: HashMap<ConnectionId, Vec<Allegiance>>,
}

impl Layouts {
    /// Whether one more worker can be counted.
    pub(crate) fn has_room(&self, registration: &Registration) -> bool {
        let Registration { model_name, world_size, layout, .. } = registration;
        let Some(world) = self.world(model_name, *world_size) else { return true };
        match world.kinds.iter().find(|kind| kind.includes(layout)) {
            Some(kind) => kind.workers.len() < *world_size as usize + SPARE_LAYOUTS_MAX || kind.knows(layout),
            None => world.kinds.len() < KINDS_MAX,
        }
    }

    /// Counts a worker whose rank is not known.
    pub(crate) fn add(&mut self, registration: &Registration) {
        let Registration { model_name, world_size, layout, .. } = registration;
        let worlds = self.worlds.entry(Arc::clone(model_name)).or_default();
        let known = worlds.iter().position(|world| world.world_size == *world_size);
        let index = known.unwrap_or_else(|| {
            let model_name = Arc::clone(model_name);
            worlds.push(World { model_name, world_size: *world_size, kinds: Vec::new() });
            worlds.len() - 1
        });
        let world = &mut worlds[index];
        match world.kinds.iter_mut().find(|kind| kind.includes(layout)) {
            Some(kind) => kind.add(None, layout),
            None => {
                let workers = vec![Workers { rank: None, layout: Arc::clone(layout), count: 1 }];
                world.kinds.push(Kind { workers });
            }
        }
    }

    /// Forgets a worker that was known to hold `rank`, or whose rank was not known.
    pub(crate) fn remove(&mut self, registration: &Registration, rank: Option<u32>) {
        let Registration { model_name, world_size, layout, .. } = registration;
        let Some(worlds) = self.worlds.get_mut(model_name) else { return };
        if let Some(world) = worlds.iter_mut().find(|world| world.world_size == *world_size) {
            if let Some(kind) = world.kinds.iter_mut().find(|kind| kind.includes(layout)) {
                kind.remove(rank, layout);
            }
            world.kinds.retain(|kind| !kind.workers.is_empty());
        }
        worlds.retain(|world| !world.kinds.is_empty());
        if worlds.is_empty() {
            self.worlds.remove(model_name);
        }
    }

    /// Notes that a worker turned out to hold `rank` and not what was known before.
    pub(crate) fn learn_rank(&mut self, registration: &Registration, before: Option<u32>, rank: u32) {
        let Registration { model_name, world_size, layout, .. } = registration;
        let Some(world) = self.world_mut(model_name, *world_size) else { return };
        if let Some(kind) = world.kinds.iter_mut().find(|kind| kind.includes(layout)) {
            kind.add(Some(rank), layout);
            kind.remove(before, layout);
        }
    }

    /// Whether any worker registered the model.
    pub(crate) fn has(&self, model_name: &str, world_size: u32) -> bool {
        self.world(model_name, world_size).is_some()
    }

    /// Whether there are several kinds of engine of one model, so that a lookup does not tell which it is
    /// for.
    pub(crate) fn differ(&self, model_name: &str, world_size: u32) -> bool {
        self.world(model_name, world_size).is_some_and(|world| world.kinds.len() > 1)
    }

    /// Notes that workers with this registration transfer under requests of the scheduler on `connection`.
    pub(crate) fn learn_scheduler(&mut self, connection: ConnectionId, registration: &Registration) {
        let Registration { model_name, world_size, layout, .. } = registration;
        self.swear(connection, model_name, *world_size, layout);
    }

    /// What a lookup on `connection` may be for: one engine's layouts where it is known whose scheduler asks,
    /// or where there is one kind of engine. Otherwise several, of which it is the one that has most of the
    /// prompt; the caller then says which, by
    /// [`Self::settle`]. None if no worker has registered the model.
    pub(crate) fn candidates(
        &mut self,
        model_name: &str,
        world_size: u32,
        connection: ConnectionId,
    ) -> Vec<EngineLayouts> {
        let Some(world) = self.world(model_name, world_size) else { return Vec::new() };
        if let [kind] = &world.kinds[..] {
            let only = kind.layouts(world);
            if let Some(only) = &only {
                self.settle(connection, only);
            }
            return only.into_iter().collect();
        }
        let of = |connection: &ConnectionId| {
            let sworn = self.schedulers.get(connection)?;
            sworn.iter().find(|sworn| sworn.is_to(model_name, world_size)).map(|sworn| &sworn.layout)
        };
        let known = of(&connection).and_then(|layout| world.kinds.iter().find(|kind| kind.includes(layout)));
        if let Some(kind) = known {
            return kind.layouts(world).into_iter().collect();
        }
        let taken: Vec<_> = self.schedulers.keys().filter_map(of).collect();
        let is_free = |kind: &&Kind| !taken.iter().any(|layout| kind.includes(layout));
        let any_free = world.kinds.iter().any(|kind| is_free(&kind));
        let kinds = world.kinds.iter().rev().filter(|kind| !any_free || is_free(kind));
        kinds.take(KINDS_TRIED_MAX).filter_map(|kind| kind.layouts(world)).collect()
    }

    /// The layouts of a model's latest kind of engine, for whoever is no scheduler.
    pub(crate) fn latest(&self, model_name: &str, world_size: u32) -> Option<EngineLayouts> {
        let world = self.world(model_name, world_size)?;
        world.kinds.last()?.layouts(world)
    }

    /// Notes what the scheduler on `connection` looks for.
    pub(crate) fn settle(&mut self, connection: ConnectionId, layouts: &EngineLayouts) {
        self.swear(connection, &layouts.model_name, layouts.world_size, &layouts.rest);
    }

    /// Forgets the scheduler on a connection that is gone.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.schedulers.remove(&connection);
    }

    fn swear(
        &mut self,
        connection: ConnectionId,
        model_name: &Arc<str>,
        world_size: u32,
        layout: &Arc<ObjectLayout>,
    ) {
        let sworn = self.schedulers.entry(connection).or_default();
        match sworn.iter_mut().find(|sworn| sworn.is_to(model_name, world_size)) {
            Some(known) if Arc::ptr_eq(&known.layout, layout) => {}
            Some(known) => known.layout = Arc::clone(layout),
            None => {
                if sworn.len() == MODELS_PER_SCHEDULER_MAX {
                    sworn.remove(0);
                }
                let (model_name, layout) = (Arc::clone(model_name), Arc::clone(layout));
                sworn.push(Allegiance { model_name, world_size, layout });
            }
        }
    }

    fn world(&self, model_name: &str, world_size: u32) -> Option<&World> {
        self.worlds.get(model_name)?.iter().find(|world| world.world_size == world_size)
    }

    fn world_mut(&mut self, model_name: &str, world_size: u32) -> Option<&mut World> {
        self.worlds.get_mut(model_name)?.iter_mut().find(|world| world.world_size == world_size)
    }
}
