//! A process's connections to PostgreSQL: so many in all, whatever it does with them.

use crate::disk::Disk;
use crate::duties::Duties;
use crate::relaxed::Relaxed;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

/// The connections of a process. Cheap to clone; clones share them. None is made before it is needed.
#[derive(Debug, Clone)]
pub struct Connections {
    most: u32,
    pool: PgPool,
    relaxed: Relaxed,
    disk: Disk,
    duties: Duties,
}

/// One for [`crate::Relay`]'s session, one for [`Disk`].
const APART: u32 = 2;

impl Connections {
    /// With fewer nothing could go on: of these the pool has four, and sessions with locks take two of those.
    pub const FEWEST: u32 = 10;

    /// At most `most` at once, [`Self::FEWEST`] at least: with those of the one relay that a process may run.
    pub fn new(most: u32, options: PgPoolOptions, connect: PgConnectOptions) -> Self {
        let most = most.max(Self::FEWEST);
        let shared = most - APART;
        let (kept, relaxed) = (shared / 4, shared / 3);
        let pool = options.max_connections(shared - kept - relaxed).connect_lazy_with(connect);
        let (relaxed, disk) = (Relaxed::of(&pool, relaxed, kept), Disk::of(&pool));
        Self { most, relaxed, disk, duties: Duties::of(&pool), pool }
    }

    /// How many there may be.
    pub fn most(&self) -> u32 {
        self.most
    }

    /// For what waits for the disk when it commits, and for reading.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// For what does not wait for the disk.
    pub fn relaxed(&self) -> &Relaxed {
        &self.relaxed
    }

    /// For what waits for it later.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// What this process does for all.
    pub fn duties(&self) -> &Duties {
        &self.duties
    }

    /// Closes the pools, once what is lent has come back.
    pub async fn close(&self) {
        self.pool.close().await;
        self.relaxed.pool().close().await;
    }
}
