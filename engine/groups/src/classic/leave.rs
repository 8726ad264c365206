//! LeaveGroup.

use millrace_model::ErrorCode;

use super::{ClassicGroup, Timer};
use crate::LeavingMember;
use crate::turn::Turn;

impl ClassicGroup {
    /// Removes members, and tells each one's fate. However many leave, there is one rebalance.
    pub(crate) fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        leaving: &[LeavingMember],
    ) -> Vec<ErrorCode> {
        let members_before = self.members.len();
        let fates = leaving
            .iter()
            .map(|member| match self.leave_one(turn, member) {
                Ok(()) => ErrorCode::None,
                Err(code) => code,
            })
            .collect();
        match self.members.len() == members_before {
            true => self.complete_if_all_joined(turn),
            false => self.after_removal(turn),
        }
        fates
    }

    fn leave_one(&mut self, turn: &mut Turn<'_>, leaving: &LeavingMember) -> Result<(), ErrorCode> {
        let id = match (&leaving.instance, leaving.member.as_str()) {
            // An administrator names static members by their instance alone.
            (Some(instance), "") => {
                let id = self.instances.get(instance).cloned();
                id.ok_or(ErrorCode::UnknownMemberId)?
            }
            (None, id) if self.pending.remove(id) => {
                self.deadlines.cancel(&Timer::Session(id.to_owned()));
                return Ok(());
            }
            (instance, id) => {
                self.check_member(id, instance.as_deref())?;
                id.to_owned()
            }
        };
        self.remove_member(turn, &id, ErrorCode::UnknownMemberId);
        Ok(())
    }
}
