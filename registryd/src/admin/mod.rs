//! The operator's door: a local socket in the data folder, spoken to by `registryd admin`.
//!
//! One JSON object a line, requests answered in order:
//!
//! ```text
//! {"id":1,"method":"users_show","params":{"username":"alice"}}
//! {"id":1,"result":{"schema":"registryd.admin.user/1","username":"alice","state":"active",…}}
//! {"id":2,"method":"users_show","params":{"username":"nobody"}}
//! {"id":2,"error":{"code":"not_found","message":"no such user","retryable":false}}
//! ```
//!
//! The verbs are [`request::Verb`], the answers are in `answer`. Lists come in pages of at most
//! [`request::PAGE_MAX`], each with the `next` to ask for the one after it. Within version 1 there are only
//! additions, and readers ignore fields that they do not know.
//!
//! Only the user as whom registryd runs, and root, are let in: by the modes of folder and socket, and by the
//! user id of whoever connects. A client that is slow, broken or hostile costs at most its own connection.
//! It knows the registry and its store, and nothing of TLS or HELLO; no peer ever gets here.

pub(crate) mod answer;
mod connection;
mod error;
mod invites;
mod page;
pub(crate) mod request;
mod rooms;
mod sessions;
mod socket;
mod users;

use std::{sync::Arc, time::Duration};

use interprocess::local_socket::{tokio::Listener, traits::tokio::Listener as _};
use tokio::{task::JoinSet, time};
use tokio_util::sync::CancellationToken;

pub(crate) use socket::{SOCKET_FILE, open};

use self::error::AdminError;
use crate::registry::Registry;

/// How many clients are served at a time; more are told so and cut. An operator has a few scripts.
const CLIENTS_MAX: usize = 16;

/// After an accept that failed (no descriptors are left), how long until the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves operators until `stop` is cancelled; then lets what runs finish. The socket is gone after it.
pub(crate) async fn serve(registry: Arc<Registry>, listener: Listener, stop: CancellationToken) {
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = clients.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "an operator's connection failed");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "an operator was not accepted");
                time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let stream = match socket::admit(stream) {
            Ok(stream) if clients.len() < CLIENTS_MAX => stream,
            Ok(stream) => {
                connection::refuse(stream, AdminError::TooMany).await;
                continue;
            }
            Err(stream) => {
                connection::refuse(stream, AdminError::Foreign).await;
                continue;
            }
        };
        let (registry, stop) = (registry.clone(), stop.clone());
        clients.spawn(async move {
            if let Err(error) = connection::serve(&registry, stream, &stop).await {
                tracing::debug!(%error, "an operator's connection ended early");
            }
        });
    }
    drop(listener);
    while let Some(ended) = clients.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "an operator's connection failed");
        }
    }
}
