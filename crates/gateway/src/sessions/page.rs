//! The page that a browser shows while a session starts.

use crate::answer::{Answer, REASON_FIELD, STYLE, escaped};
use http::StatusCode;
use spawnery_model::Name;

/// What only the gateway answers below a session's URL.
pub(super) const RESERVED: &str = "/.spawnery/";

/// Where the page asks how the start goes.
pub(super) const WAIT_PATH: &str = "/.spawnery/wait";

/// What the page does: asks until the session is ready, and loads itself again then. Without
/// scripts the browser loads it again by itself.
const SCRIPT: &str = "const note=document.getElementById('note');const look=async()=>{try{\
    const answer=await fetch(document.body.dataset.wait,{cache:'no-store'});\
    const start=await answer.json();\
    if(start.state==='ready'){location.reload();return}\
    if(start.state==='failed'){document.getElementById('title').textContent='It did not start';\
    note.textContent=start.note;document.getElementById('again').hidden=false;\
    document.getElementById('bar').hidden=true;return}\
    if(start.state==='none'){location.reload();return}\
    note.textContent=start.note}catch(error){note.textContent='The connection was lost. Trying again.'}\
    setTimeout(look,400)};look();";

const BAR: &str = "#bar{height:2px;overflow:hidden;background:color-mix(in srgb,currentColor 15%,\
    transparent)}#bar i{display:block;height:100%;width:30%;background:currentColor;opacity:.6;\
    animation:go 1.6s ease-in-out infinite}@keyframes go{from{transform:translateX(-100%)}\
    to{transform:translateX(430%)}}@media(prefers-reduced-motion:reduce){#bar i{animation:none;\
    width:100%;opacity:.3}}";

/// What the page may do: nothing but what it does.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'";

/// The page for a session below `prefix`.
pub(super) fn waiting(template: &Name, key: &Name, prefix: &str, note: &str) -> Answer {
    let (prefix, note) = (escaped(prefix), escaped(note));
    let body = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Starting {key}</title>\
         <noscript><meta http-equiv=\"refresh\" content=\"2\"></noscript>\
         <style>{STYLE}{BAR}</style></head><body data-wait=\"{prefix}{WAIT_PATH}\"><main>\
         <h1 id=\"title\">Starting {template} / {key}</h1><div id=\"bar\"><i></i></div>\
         <p id=\"note\" role=\"status\">{note}</p>\
         <p><a id=\"again\" href=\"\" hidden>Try again</a></p></main>\
         <script>{SCRIPT}</script></body></html>\n"
    );
    Answer::html(StatusCode::ACCEPTED, body)
        .with(REASON_FIELD, "starting")
        .with("cache-control", "no-store")
        .with("content-security-policy", POLICY)
        .with("retry-after", "1")
}

/// How the start goes, for the page.
pub(super) fn state(state: &str, note: &str) -> Answer {
    let body = serde_json::json!({ "state": state, "note": note });
    let answer = Answer::text(StatusCode::OK, body.to_string());
    Answer { content_type: "application/json", ..answer }.with("cache-control", "no-store")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_shows_text_as_text() {
        let name = |text: &str| Name::new(text).unwrap();
        let page = waiting(&name("tool"), &name("alice"), "/s/tool/alice", "<b>waits</b>");
        let text = String::from_utf8(page.body).unwrap();
        assert!(text.contains("data-wait=\"/s/tool/alice/.spawnery/wait\""), "{text}");
        assert!(text.contains("&lt;b&gt;waits"), "{text}");
        assert!(!text.contains("src=") && !text.contains("http://") && !text.contains("https://"));
    }
}
