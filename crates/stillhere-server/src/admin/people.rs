//! Users, bans, rooms, notices and the audit log over HTTP.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Json, Response};

use super::{App, Problem};
use crate::control::ControlError;
use crate::office::{
    self, AuditQuery, BanQuery, DeleteQuery, Import, NewBan, NewNotice, NewRoom, NewUser, OfficeError, RoomsQuery,
    UserChange, UsersQuery, WhoQuery,
};

type Asked<T> = Result<Query<T>, QueryRejection>;
type Sent<T> = Result<Json<T>, JsonRejection>;
type Answered = Result<Response, Problem>;

pub(super) async fn users(State(app): State<App>, query: Asked<UsersQuery>) -> Answered {
    let Query(query) = query?;
    Ok(Json(app.control.office(move |office| office.users(&query)).await?).into_response())
}

pub(super) async fn add_user(State(app): State<App>, new: Sent<NewUser>) -> Answered {
    let Json(new) = new?;
    Ok(Json(app.control.office(move |office| office.add_user(&new)).await?).into_response())
}

pub(super) async fn change_user(
    State(app): State<App>,
    Path(name): Path<String>,
    change: Sent<UserChange>,
) -> Answered {
    let Json(change) = change?;
    Ok(Json(app.control.office(move |office| office.change_user(&name, &change)).await?).into_response())
}

pub(super) async fn delete_user(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Asked<DeleteQuery>,
) -> Answered {
    let Query(DeleteQuery { purge }) = query?;
    Ok(Json(app.control.office(move |office| office.delete_user(&name, purge)).await?).into_response())
}

pub(super) async fn import(State(app): State<App>, import: Sent<Import>) -> Answered {
    let Json(import) = import?;
    Ok(Json(app.control.office(move |office| office.import(&import)).await?).into_response())
}

pub(super) async fn bans(State(app): State<App>) -> Answered {
    Ok(Json(app.control.office(|office| office.bans()).await?).into_response())
}

pub(super) async fn ban(State(app): State<App>, ban: Sent<NewBan>) -> Answered {
    let Json(ban) = ban?;
    let (answer, subject) = app.control.office(move |office| office.ban(&ban)).await?;
    // First, so that nobody comes back in between.
    app.control.refresh_bans().await?;
    app.control.enforce(subject).await?;
    Ok(Json(answer).into_response())
}

pub(super) async fn unban(State(app): State<App>, query: Asked<BanQuery>) -> Answered {
    let Query(query) = query?;
    let answer = app.control.office(move |office| office.unban(&query)).await?;
    app.control.refresh_bans().await?;
    Ok(Json(answer).into_response())
}

pub(super) async fn rooms(State(app): State<App>, query: Asked<RoomsQuery>) -> Answered {
    let Query(query) = query?;
    Ok(Json(app.control.office(move |office| office.rooms(&query)).await?).into_response())
}

pub(super) async fn add_room(State(app): State<App>, new: Sent<NewRoom>) -> Answered {
    let Json(new) = new?;
    Ok(Json(app.control.office(move |office| office.add_room(&new)).await?).into_response())
}

pub(super) async fn delete_room(State(app): State<App>, Path(name): Path<String>) -> Answered {
    Ok(Json(app.control.office(move |office| office.delete_room(&name)).await?).into_response())
}

pub(super) async fn audit(State(app): State<App>, query: Asked<AuditQuery>) -> Answered {
    let Query(query) = query?;
    Ok(Json(app.control.office(move |office| office.audit(&query)).await?).into_response())
}

pub(super) async fn notice(State(app): State<App>, notice: Sent<NewNotice>) -> Answered {
    let Json(NewNotice { text, room, user }) = notice?;
    let to = office::place(room.as_deref(), user.as_deref()).map_err(ControlError::Office)?;
    office::short("text", &text).map_err(ControlError::Office)?;
    if text.trim().is_empty() {
        return Err(ControlError::Office(OfficeError::Bad("the text is empty; say something".to_owned())).into());
    }
    let noticed = app.control.notice(to, text.clone()).await?;
    app.control.note("notice", room.or(user).unwrap_or_default(), text).await;
    Ok(Json(noticed).into_response())
}

pub(super) async fn who(State(app): State<App>, query: Asked<WhoQuery>) -> Answered {
    let Query(WhoQuery { room, user }) = query?;
    let place = office::place(room.as_deref(), user.as_deref()).map_err(ControlError::Office)?;
    Ok(Json(app.control.who(place).await?).into_response())
}
