//! Sessions: list, kick.

use registryd_proto::Username;

use super::{
    answer::{Session, SessionItem, SessionState, Sessions, Time},
    error::AdminError,
    request::Page,
    users::{end, seen},
};
use crate::{
    registry::Registry,
    store::{Rule, SessionRow, StoreError},
};

pub(super) async fn list(
    registry: &Registry,
    page: &Page<Username>,
) -> Result<Sessions, AdminError> {
    let mut rows = registry.store.session_rows(page.after.as_ref(), page.rows_max()).await?;
    let next = page.cut(&mut rows, |row| row.username.clone());
    let sessions = rows.into_iter().map(|row| item(registry, row)).collect();
    Ok(Sessions { sessions, next })
}

pub(super) async fn kick(registry: &Registry, username: Username) -> Result<Session, AdminError> {
    let ended = match registry.store.kick(&username).await {
        Err(StoreError::Rule(Rule::NoSession)) => return Err(AdminError::NoSession),
        ended => ended?,
    };
    end(registry, &ended);
    tracing::info!(%username, "the operator ended a session");
    Ok(Session { username, state: SessionState::Ended })
}

fn item(registry: &Registry, row: SessionRow) -> SessionItem {
    let (presence, last_hello_ms_ago) = seen(registry, row.account);
    SessionItem {
        presence,
        last_hello_ms_ago,
        address: registry.presence().heard_at(row.account),
        opened: Time(row.opened_ms),
        epoch: row.epoch,
        username: row.username,
    }
}
