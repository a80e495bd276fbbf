//! For the zoo: a projector that looked right.

use super::{Passing, Projector, Step};
use crate::checkpoint::{self, Checkpoint};
use crate::recorded::Recorded;
use crate::zoo::plays;

impl Projector {
    /// The checkpoint in a transaction of its own.
    pub(super) async fn apply_apart(
        &self,
        at: &mut Checkpoint,
        batch: &[Recorded],
        last: &Recorded,
    ) -> Result<Step, Passing> {
        let mut connection = self.relaxed.pool().acquire().await?;
        let mut moved = true;
        if plays("checkpoint-before-the-effects") {
            moved = checkpoint::advance(&mut connection, self.name(), self.generation, *at, last.position).await?;
        }
        if moved {
            let mut transaction = self.relaxed.pool().begin().await?;
            self.projection.apply(&mut transaction, batch).await.map_err(Passing::Projection)?;
            transaction.commit().await?;
            if plays("checkpoint-after-the-effects") {
                moved = checkpoint::advance(&mut connection, self.name(), self.generation, *at, last.position).await?;
            }
        }
        if !moved {
            return Ok(Step::Moved);
        }
        at.position = last.position;
        self.arrived(last.position, last.position, Some(last.recorded_at));
        Ok(Step::Applied)
    }
}
