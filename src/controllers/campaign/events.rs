//! Events of a Campaign. One that cannot be written fails nothing: status says the same.

use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder};

use super::fetch::Fetched;
use super::missed::{self, Missed};
use crate::api::conditions::reason;
use crate::controllers::context::Context;
use crate::controllers::error::bounded;

/// Says which windows were missed.
pub async fn windows_missed(fetched: &Fetched, windows: &[Missed], context: &Context) {
    let (campaign, note) = (&fetched.name, missed::message(windows));
    tracing::warn!(namespace = fetched.namespace, campaign, windows = windows.len(), note, "windows missed");
    let event = Event {
        type_: EventType::Warning,
        reason: reason::WINDOW_MISSED.to_owned(),
        // The API server takes no more than 1024 characters.
        note: Some(note.chars().take(1000).collect()),
        action: "CheckWindows".to_owned(),
        secondary: None,
    };
    let about = fetched.campaign.object_ref(&());
    // A recorder of its own: one that is shared takes a second event of a reason for a repeat of the first,
    // and keeps the first one's note.
    let recorder = Recorder::new(context.client.clone(), context.reporter.clone());
    if let Err(error) = bounded(recorder.publish(&event, &about)).await {
        tracing::warn!(namespace = fetched.namespace, campaign, error = %error, "an event could not be written");
    }
}
