//! The figures as a picture: how full the fullest worker is, and the latencies of light clients.

use std::fmt::Write as _;

use super::super::testbed::Steering;
use super::report::{Medians, Spread};
use super::{Case, Measured};

/// What the picture shows, for those who do not see it.
pub(super) const DESCRIPTION: &str = "Connections of the fullest worker as a multiple of the mean, and latencies of light clients from p50 to p99.9, for each mode of steering";

const WIDTH: f64 = 960.0;
/// Where scales begin, right of the names, and end.
const LEFT: f64 = 300.0;
const RIGHT: f64 = 930.0;
const LINE: f64 = 18.0;
const GAP: f64 = 12.0;

/// A scale from left to right.
#[derive(Clone, Copy, Debug)]
enum Scale {
    /// From 0 to this.
    Linear(f64),
    /// Powers of ten, from one to another.
    Logarithmic(i32, i32),
}

impl Scale {
    fn x(self, value: f64) -> f64 {
        let part = match self {
            Self::Linear(most) => value / most,
            Self::Logarithmic(from, to) => {
                (value.max(f64::MIN_POSITIVE).log10() - f64::from(from)) / f64::from(to - from)
            }
        };
        LEFT + part.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }
}

/// The picture while it is drawn, from top to bottom.
#[derive(Debug)]
struct Drawing {
    text: String,
    y: f64,
}

pub(super) fn svg(measured: &Measured) -> String {
    let mut drawing = Drawing {
        text: String::new(),
        y: 34.0,
    };
    drawing.legend();
    drawing.imbalance(measured);
    drawing.latencies(measured);
    let height = drawing.y + 10.0;
    format!(
        "\
<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" \
font-size=\"13\" role=\"img\" aria-label=\"{DESCRIPTION}\">
  <style>
    text {{ fill: #123 }}
    .title {{ font-weight: 600; font-size: 14px }}
    .small {{ font-size: 11px; fill: #456 }}
    .end {{ text-anchor: end }}
    .mid {{ text-anchor: middle }}
    .grid {{ stroke: #dde5ec }}
    .kernel {{ stroke: #a72; fill: #a72 }}
    .cpu {{ stroke: #679; fill: #679 }}
    .least-loaded {{ stroke: #275; fill: #275 }}
  </style>
  <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>
{}</svg>
",
        drawing.text
    )
}

impl Drawing {
    fn write(&mut self, element: &str) {
        // Writing to a String cannot fail.
        _ = writeln!(self.text, "  {element}");
    }

    fn label(&mut self, x: f64, class: &str, label: &str) {
        let y = self.y;
        self.write(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{label}</text>"
        ));
    }

    fn legend(&mut self) {
        let modes = [Steering::Kernel, Steering::Cpu, Steering::LeastLoaded];
        for (steering, x) in modes.into_iter().zip([LEFT, LEFT + 100.0, LEFT + 180.0]) {
            let (name, y) = (steering.name(), self.y - 4.0);
            self.write(&format!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" class=\"{name}\"/>"
            ));
            self.label(x + 12.0, "", name);
        }
        self.y += 34.0;
    }

    fn title(&mut self, title: &str) {
        self.label(20.0, "title", title);
        self.y += 24.0;
    }

    /// Lines behind the rows to come, with their values above.
    fn grid(&mut self, scale: Scale, ticks: &[f64], height: f64) {
        let top = self.y;
        for tick in ticks {
            let x = scale.x(*tick);
            self.label(x, "small mid", &tick.to_string());
            let (from, to) = (top + 5.0, top + 5.0 + height);
            self.write(&format!(
                "<line x1=\"{x:.1}\" y1=\"{from:.1}\" x2=\"{x:.1}\" y2=\"{to:.1}\" class=\"grid\"/>"
            ));
        }
        self.y += 22.0;
    }

    fn imbalance(&mut self, measured: &Measured) {
        self.title("Connections of the fullest worker, as a multiple of the mean");
        let rows: Vec<_> = measured
            .held
            .iter()
            .map(|(key, rounds)| (*key, Spread::of(rounds).highest))
            .collect();
        let most = rows.iter().map(|(_, highest)| highest.ceil());
        let most = most.fold(2.0, f64::max);
        let scale = Scale::Linear(most);
        let ticks: Vec<_> = (0..=most as u32).map(f64::from).collect();
        let groups = rows.chunk_by(|one, other| one.0.0 == other.0.0);
        let height = rows.len() as f64 * LINE + groups.clone().count() as f64 * GAP;
        self.grid(scale, &ticks, height);
        for group in groups {
            let mut name = group
                .first()
                .map(|((workers, _), _)| format!("{workers} workers"));
            for ((_, steering), highest) in group {
                if let Some(name) = name.take() {
                    self.label(LEFT - 14.0, "end", &name);
                }
                let (y, width) = (self.y - 11.0, scale.x(*highest) - LEFT);
                let class = steering.name();
                self.write(&format!(
                    "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"13\" class=\"{class}\"/>"
                ));
                let inside = LEFT + width - 6.0;
                let y = self.y;
                self.write(&format!(
                    "<text x=\"{inside:.1}\" y=\"{y:.1}\" class=\"small end\" style=\"fill: #fff\">{highest:.2}</text>"
                ));
                self.y += LINE;
            }
            self.y += GAP;
        }
        self.y += 24.0;
    }

    fn latencies(&mut self, measured: &Measured) {
        self.title("Light clients, from when a connection was due to the end of the answer: p50, p99 (large), p99.9, in ms");
        let rows: Vec<_> = measured
            .cases
            .iter()
            .map(|(case, samples)| (*case, Medians::of(samples)))
            .collect();
        let power = |value: f64| value.max(0.001).log10();
        let least = rows.iter().map(|(_, row)| power(row.p50).floor() as i32);
        let most = rows.iter().map(|(_, row)| power(row.p999).ceil() as i32);
        let from = least.min().unwrap_or(0);
        let to = most.max().unwrap_or(1).max(from + 1);
        let scale = Scale::Logarithmic(from, to);
        let ticks: Vec<_> = (from..=to).map(|power| 10_f64.powi(power)).collect();
        let groups = rows.chunk_by(|(one, _), (other, _)| same_but_steering(one, other));
        let height = rows.len() as f64 * LINE + groups.clone().count() as f64 * GAP;
        self.grid(scale, &ticks, height);
        for group in groups {
            let mut name = group.first().map(|(case, _)| {
                let kind = case.kind.name();
                format!("{}, {} workers; {kind}", case.workload.name(), case.workers)
            });
            for (case, row) in group {
                if let Some(name) = name.take() {
                    self.label(LEFT - 14.0, "end", &name);
                }
                self.range(scale, case.steering, row);
                self.y += LINE;
            }
            self.y += GAP;
        }
    }

    fn range(&mut self, scale: Scale, steering: Steering, row: &Medians) {
        let class = steering.name();
        let y = self.y - 4.0;
        let [p50, p99, p999] = [row.p50, row.p99, row.p999].map(|value| scale.x(value));
        self.write(&format!(
            "<line x1=\"{p50:.1}\" y1=\"{y:.1}\" x2=\"{p999:.1}\" y2=\"{y:.1}\" class=\"{class}\" stroke-width=\"2\"/>"
        ));
        for (x, radius) in [(p50, 3), (p99, 6), (p999, 3)] {
            self.write(&format!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" class=\"{class}\"/>"
            ));
        }
    }
}

fn same_but_steering(one: &Case, other: &Case) -> bool {
    let steering = Steering::Kernel;
    Case { steering, ..*one } == Case { steering, ..*other }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::measured;
    use super::*;

    #[test]
    fn scales_go_from_left_to_right() {
        let near = |value: f64, expected: f64| assert!((value - expected).abs() < 1e-9, "{value}");
        let middle = f64::midpoint(LEFT, RIGHT);
        near(Scale::Linear(2.0).x(1.0), middle);
        near(Scale::Logarithmic(-1, 3).x(10.0), middle);
        near(Scale::Logarithmic(-1, 3).x(f64::NAN), LEFT);
        near(Scale::Logarithmic(-1, 3).x(1e9), RIGHT);
    }

    #[test]
    fn every_row_is_drawn() {
        let svg = svg(&measured());
        // Three for a row, and three in the legend.
        assert_eq!(svg.matches("<circle").count(), 2 * 3 + 3);
        assert_eq!(svg.matches("<rect").count(), 2 + 1);
        assert!(
            svg.contains("one busy worker, 2 workers; new, TLS"),
            "{svg}"
        );
        assert!(!svg.contains("NaN"), "{svg}");
    }
}
