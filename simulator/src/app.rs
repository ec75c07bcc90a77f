//! The simulated service: state behind one lock, and what each call does with it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::answer::{Answer, Disturbance, Question};
use crate::api_error::ApiError;
use crate::calls::{Call, KEPT_CALLS};
use crate::clock::{Clock, shift};
use crate::endpoint::{Endpoint, Route, route};
use crate::fault::{self, Effect, Fault};
use crate::limits::{Limits, Quota};
use crate::switches::{Switches, UpdatedAtMoves};
use crate::task::Tasks;
use crate::world::World;
use crate::{auth, channels, control, download, exports, user_exports};

/// A request larger than this is refused with code 22.
pub(crate) const LARGEST_BODY_BYTES: usize = 1024 * 1024;

/// Everything that changes.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) world: World,
    pub(crate) switches: Switches,
    pub(crate) clock: Clock,
    pub(crate) faults: Vec<Fault>,
    pub(crate) tasks: Tasks,
    pub(crate) limits: Limits,
    pub(crate) calls: VecDeque<Call>,
}

impl State {
    pub(crate) fn new(world: World, switches: Switches, clock: Clock) -> Self {
        let mut state = Self {
            world,
            switches: Switches::default(),
            clock,
            faults: Vec::new(),
            tasks: Tasks::default(),
            limits: Limits::default(),
            calls: VecDeque::new(),
        };
        state.set_switches(switches);
        state
    }

    pub(crate) fn set_switches(&mut self, switches: Switches) {
        self.world.updated_at_moves_on_any_change = switches.updated_at_moves == UpdatedAtMoves::OnAnyChange;
        self.switches = switches;
    }

    fn record(&mut self, call: Call) {
        if self.calls.len() == KEPT_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back(call);
    }
}

/// The service of one app.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) key: String,
    pub(crate) secret: String,
    state: Mutex<State>,
}

impl App {
    pub(crate) fn new(key: String, secret: String, state: State) -> Self {
        Self { key, secret, state: Mutex::new(state) }
    }

    /// The state. A test that panicked while it held the lock has failed already; its neighbours go on.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers any request.
    pub(crate) fn answer(&self, question: &Question) -> Answer {
        if let Some(verb) = question.path.strip_prefix("/control/") {
            return control::answer(&mut self.state(), question, verb);
        }
        let now = self.state().clock.now();
        let body = serde_json::from_slice::<Value>(&question.body);
        let mut call = Call {
            at: now,
            method: question.method.clone(),
            path: question.path.clone(),
            range: question.header("range").map(str::to_owned),
            body: body.as_ref().ok().cloned().unwrap_or_default(),
            ..Call::default()
        };
        let (mut answer, quota) = match route(&question.method, &question.path) {
            Some(route) => {
                call.endpoint = route.endpoint.name().into();
                let body =
                    if question.body.is_empty() { Ok(json!({})) } else { body.map_err(|error| error.to_string()) };
                self.disturbed(question, &route, body, now, &mut call)
            }
            None => {
                call.endpoint = "Unknown".into();
                let message = format!("the simulator does not implement {} {}", question.method, question.path);
                (ApiError::missing(message).answer("Unknown"), None)
            }
        };
        let mut state = self.state();
        if let Some(quota) = quota {
            answer = answer
                .header("x-ratelimit-limit", quota.limit.to_string())
                .header("x-ratelimit-remaining", quota.remaining.to_string())
                .header("x-ratelimit-reset", quota.reset_s.to_string());
        }
        let date = shift(now, SignedDuration::from_secs(state.switches.date_skew_seconds));
        answer = answer.header("date", date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
        call.status = if answer.disturbance == Disturbance::Reset { 0 } else { answer.status };
        if answer.status >= 400 {
            call.code = serde_json::from_slice::<Value>(&answer.body)
                .ok()
                .and_then(|error| error["code"].as_i64())
                .and_then(|code| i32::try_from(code).ok())
                .unwrap_or_default();
        }
        tracing::debug!(endpoint = call.endpoint, status = call.status, path = call.path, "answered");
        state.record(call);
        answer
    }

    fn disturbed(
        &self,
        question: &Question,
        route: &Route,
        body: Result<Value, String>,
        now: Timestamp,
        call: &mut Call,
    ) -> (Answer, Option<Quota>) {
        let text = String::from_utf8_lossy(&question.body);
        if let (Endpoint::ExportChannels, Ok(body)) = (route.endpoint, &body) {
            call.cids = exports::cids(body);
        }
        let candidate =
            fault::Candidate { endpoint: route.endpoint, path: &question.path, body: &text, cids: &call.cids };
        let effect = fault::take(&mut self.state().faults, &candidate);
        if let Some(effect) = &effect {
            call.fault =
                serde_json::to_value(effect).ok().and_then(|effect| effect["effect"].as_str().map(str::to_owned));
        }
        let (mut answer, quota) = match &effect {
            Some(Effect::Reset) => return (Answer::reset(), None),
            Some(Effect::Status { status, code, body, headers }) => {
                let mut answer = match body {
                    Some(body) => {
                        let kind = if body.starts_with('{') { "application/json" } else { "text/html" };
                        Answer::new(*status, kind, body.clone())
                    }
                    None if route.endpoint == Endpoint::Download => {
                        download::xml(*status, "InternalError", "scripted fault")
                    }
                    None => {
                        let code = code.unwrap_or_else(|| documented_code(*status));
                        ApiError::new(*status, code, "scripted fault").answer(route.endpoint.name())
                    }
                };
                answer.headers.extend(headers.clone());
                (answer, None)
            }
            effect => self.serve(question, route, body, effect.as_ref(), now, call),
        };
        match effect {
            Some(Effect::LoseAnswer) => answer.disturbance = Disturbance::Reset,
            Some(Effect::CutBody { after_bytes }) => answer.disturbance = Disturbance::Cut { after_bytes },
            Some(Effect::SlowBody { chunk_bytes, delay_ms }) => {
                answer.chunk_bytes = chunk_bytes.max(1);
                answer.disturbance = Disturbance::Slow { delay_ms };
            }
            _ => {}
        }
        (answer, quota)
    }

    fn serve(
        &self,
        question: &Question,
        route: &Route,
        body: Result<Value, String>,
        effect: Option<&Effect>,
        now: Timestamp,
        call: &mut Call,
    ) -> (Answer, Option<Quota>) {
        if route.endpoint == Endpoint::Download {
            call.task_id = Some(route.id.clone());
            return (self.download(question, &route.id, effect, now), None);
        }
        let name = route.endpoint.name();
        if let Err(error) = auth::check(question, &self.key, &self.secret, now) {
            return (error.answer(name), None);
        }
        let mut state = self.state();
        let state = &mut *state;
        let quota = state.limits.take(name, &state.switches, now);
        if !quota.allowed {
            let message = format!("Too many requests for {name}, limit is {} per minute", quota.limit);
            return (ApiError::new(429, 9, message).answer(name), Some(quota));
        }
        let answer = if question.body.len() > LARGEST_BODY_BYTES {
            Err(ApiError::new(413, 22, "payload too big"))
        } else {
            body.map_err(ApiError::input).and_then(|body| match route.endpoint {
                Endpoint::ExportChannels => exports::request(state, &body, effect, now, call),
                Endpoint::ExportUsers => user_exports::request(state, &body, effect, now, call),
                Endpoint::GetTask | Endpoint::GetExportChannelsStatus => {
                    call.task_id = Some(route.id.clone());
                    let host = question.header("host").unwrap_or("127.0.0.1");
                    // Said by whoever ends TLS before it.
                    let scheme = question.header("x-forwarded-proto").unwrap_or("http");
                    exports::status(state, route, &format!("{scheme}://{host}"), &self.secret, now)
                }
                Endpoint::QueryChannels => channels::query(&state.world, &body, route.v2),
                Endpoint::ExportUser => user_exports::export(&state.world, &route.id, &state.switches, route.v2),
                Endpoint::GetRateLimits => Ok(rate_limits(state, question.parameter("endpoints"), now)),
                Endpoint::Download => Err(ApiError::missing("downloads are not API calls")),
            })
        };
        (answer.unwrap_or_else(|error| error.answer(name)), Some(quota))
    }

    /// Files are written outside of the lock.
    fn download(&self, question: &Question, task_id: &str, effect: Option<&Effect>, now: Timestamp) -> Answer {
        if let Some(refusal) = download::refusal(question, task_id, &self.secret, now) {
            return refusal;
        }
        let mut state = self.state();
        let Some(task) = state.tasks.get_mut(task_id).filter(|task| !download::is_gone(task, now)) else {
            return download::no_such_key();
        };
        if effect == Some(&Effect::NewEtag) {
            task.etag_version += 1;
        }
        let task = task.clone();
        let switches = state.switches.clone();
        drop(state);
        download::serve(question, &task, &switches)
    }
}

fn rate_limits(state: &mut State, endpoints: Option<&str>, now: Timestamp) -> Answer {
    let known = ["ExportChannels", "ExportUser", "ExportUsers", "GetTask", "QueryChannels", "GetRateLimits"];
    let wanted =
        known.into_iter().filter(|name| endpoints.is_none_or(|list| list.split(',').any(|wanted| wanted == *name)));
    let mut server_side = serde_json::Map::new();
    for name in wanted {
        let quota = state.limits.peek(name, &state.switches, now);
        server_side.insert(
            name.to_owned(),
            json!({"limit": quota.limit, "remaining": quota.remaining, "reset": quota.reset_s}),
        );
    }
    Answer::json(200, json!({"duration": "0.31ms", "server_side": server_side}).to_string())
}

fn documented_code(status: u16) -> i32 {
    match status {
        401 => 5,
        403 => 17,
        404 => 16,
        408 => 23,
        413 => 22,
        429 => 9,
        431 => 24,
        500.. => -1,
        _ => 4,
    }
}
