//! A person who is asked about deletions, and what must hold until they have answered.

use tandem_domain::Customer;

use super::play::Play;
use super::world::State;
use crate::deletions::{Asked, Verdict};
use crate::link::LinkState;
use crate::{Deletes, Direction, OnDelete};

/// What deletions do where a person is asked.
pub(super) const ASK: Deletes = Deletes { inbound: OnDelete::Ask, outbound: OnDelete::Ask };

impl State {
    /// The person answers what is asked in this moment, as by the product's rule. Nothing was carried out before.
    pub fn answer(&mut self) {
        let Some(verdict) = self.setting.asks else { return };
        for side in 0..self.sides.len() {
            for (link_id, asked) in self.open(side) {
                self.tell(|| format!("a person says of link {link_id} of gateway {side}: {verdict:?}"));
                self.unanswered(side, link_id, asked);
                let now = self.now;
                let side = &mut self.sides[side];
                side.let_go_of_what_is_held(link_id);
                let Some(row) = side.row(link_id) else { continue };
                row.link.asked = Some(Asked { verdict: Some(verdict), ..asked });
                row.link.look = true;
                row.link.due_seq += 1;
                row.not_before = now;
            }
        }
    }

    fn open(&self, side: usize) -> Vec<(i64, Asked)> {
        let links = self.sides[side].links.iter().map(|row| &row.link);
        links.filter_map(|link| Some((link.id, link.asked.filter(|asked| asked.is_open())?))).collect()
    }

    /// A history deletes once: until somebody has answered, the other side lives.
    fn unanswered(&mut self, side: usize, link_id: i64, asked: Asked) {
        let Some(row) = self.sides[side].row(link_id) else { return };
        let (customer, remote_id) = (row.link.customer_id, row.link.remote_id.clone());
        let lives_here = matches!(self.customers[&customer].customer, Customer::Active { .. });
        let there = remote_id.and_then(|id| self.sides[side].remote.objects.get(&id));
        let lives_there = there.is_some_and(|held| !held.gone);
        if (lives_here, lives_there) != (asked.direction == Direction::Inbound, asked.direction == Direction::Outbound)
        {
            self.breaks(|| format!("{asked:?}, and here it lives: {lives_here}, there: {lives_there}"));
        }
    }
}

/// What still waits is answered, once it is seen that nothing moves until then.
pub(super) fn answered(play: &mut Play) -> Result<(), String> {
    let waits = {
        let state = play.world.lock();
        (0..state.sides.len()).any(|side| !state.open(side).is_empty())
    };
    if !waits {
        return Ok(());
    }
    super::check::silent(play)?;
    play.world.lock().answer();
    play.rest()
}

/// Whether that was carried out which the person said.
pub(super) fn as_said(state: &State) -> Result<(), String> {
    for link in state.sides.iter().flat_map(|side| &side.links).map(|row| &row.link) {
        let said = match (state.setting.asks, link.asked) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some(Verdict::Delete), _) => link.state != LinkState::Unlinked,
            (Some(Verdict::Keep), Some(_)) => link.state == LinkState::Unlinked,
            (Some(Verdict::Keep), None) => link.state == LinkState::Active,
        };
        if !said {
            return Err(format!("it was said {:?} of {link:?}", state.setting.asks));
        }
    }
    Ok(())
}
