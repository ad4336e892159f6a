//! Edits of fields against a plain list.
//!
//! The input is lines. Those up to an empty one are the received fields; each one behind it is an edit: `=name:value`
//! sets, `+name:value` appends, `-name` removes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_dataplane::fuzzing::{Field, Fields, Reading, request_head};

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|byte| *byte == b'\n');
    let mut head = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        head.extend_from_slice(line);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    let Some(mut fields) = Fields::of(&head) else {
        return;
    };
    let mut model = fields.lines();
    for edit in lines {
        apply(edit, &mut fields, &mut model);
        assert_eq!(without_case(fields.lines()), without_case(model.clone()));
    }
    check_written(&fields);
});

fn apply(edit: &[u8], fields: &mut Fields, model: &mut Vec<Field>) {
    let Some((kind, rest)) = edit.split_first() else {
        return;
    };
    let mut parts = rest.splitn(2, |byte| *byte == b':');
    let name = parts.next().unwrap_or_default();
    let value = parts.next().unwrap_or_default().trim_ascii();
    if !is_name(name) || !value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return;
    }
    let line = (name.to_owned(), value.to_owned());
    match kind {
        b'=' if fields.set(name, value) => {
            model.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
            model.push(line);
        }
        b'+' => {
            fields.append(name, value);
            model.push(line);
        }
        b'-' => {
            fields.remove(name);
            model.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        }
        _ => {}
    }
    if let Some(values) = fields.all(name) {
        let expected = model
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name));
        assert!(values.iter().eq(expected.map(|(_, value)| value)));
    }
}

/// Names that the data plane knows are written in lower case when it writes them anew.
fn without_case(mut lines: Vec<Field>) -> Vec<Field> {
    for (name, _) in &mut lines {
        name.make_ascii_lowercase();
    }
    lines
}

/// What is written reads as what is there.
fn check_written(fields: &Fields) {
    let head = fields.head();
    assert!(head.ends_with(&[&*fields.written(), b"\r\n"].concat()));
    // Edits may have made a head that is not accepted: two lengths, no host.
    if let Reading::Whole(request, length) = request_head(&head) {
        assert_eq!((request.fields, length), (fields.lines(), head.len()));
    }
}

fn is_name(name: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_part)
}
