//! The drawings: SVG, with as many sessions or accounts on an axis of powers of ten.

use std::{io, path::Path};

use plotters::{
    coord::Shift,
    prelude::{
        ChartBuilder, Circle, Color as _, DrawingArea, IntoDrawingArea as _, IntoLogRange as _,
        LineSeries, PathElement, RGBColor, SVGBackend, SeriesLabelPosition, WHITE,
    },
};

use super::{Report, RestartRow, SearchRow};

const SIZE: (u32, u32) = (760, 420);
const COLOURS: [RGBColor; 4] =
    [RGBColor(20, 90, 170), RGBColor(200, 90, 20), RGBColor(40, 140, 60), RGBColor(130, 60, 150)];

/// One line of a drawing.
struct Line {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

/// One drawing.
struct Drawing {
    /// The end of its file's name.
    file: &'static str,
    title: &'static str,
    x: &'static str,
    y: &'static str,
    /// Powers of ten on the horizontal axis; else it begins at 0.
    log: bool,
    lines: Vec<Line>,
}

/// A drawing that was written.
pub(crate) struct Drawn {
    /// What it shows.
    pub(crate) title: &'static str,
    /// Its file, beside the report.
    pub(crate) file: String,
}

/// Draws what there are figures for, beside `report`.
///
/// # Errors
/// If a file cannot be written.
pub(crate) fn draw(report: &Report, path: &Path) -> io::Result<Vec<Drawn>> {
    let stem = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    let mut drawn = Vec::new();
    for drawing in drawings(report) {
        let file = format!("{stem}-{}.svg", drawing.file);
        let area = path.with_file_name(&file);
        let area = SVGBackend::new(&area, SIZE).into_drawing_area();
        drawing.onto(&area).map_err(|error| io::Error::other(error.to_string()))?;
        drawn.push(Drawn { title: drawing.title, file });
    }
    Ok(drawn)
}

fn drawings(report: &Report) -> Vec<Drawing> {
    let mut all = Vec::new();
    if !report.hello.is_empty() {
        all.extend([hello(report), cpu(report)]);
    }
    if !report.memory.is_empty() {
        all.push(memory(report));
    }
    if !report.search_accounts.is_empty() {
        let rows = &report.search_accounts;
        all.push(latency("search-accounts", "Search against accounts", "accounts", rows, |row| {
            row.accounts
        }));
        all.push(throughput(report));
    }
    if !report.search_sessions.is_empty() {
        let rows = &report.search_sessions;
        all.push(latency("search-sessions", "Search against sessions", "sessions", rows, |row| {
            row.sessions
        }));
    }
    all.extend(report.restart.as_ref().map(restart));
    all
}

fn restart(row: &RestartRow) -> Drawing {
    let points = row.curve.iter().map(|(at, share)| (*at, share * 100.0)).collect();
    Drawing {
        file: "restart",
        title: "Online again after kill -9 and a start",
        x: "seconds since the kill",
        y: "percent online",
        log: false,
        lines: vec![Line { name: "online", points }],
    }
}

fn line<R>(name: &'static str, rows: &[R], point: impl Fn(&R) -> (u64, f64)) -> Line {
    #[expect(clippy::cast_precision_loss, reason = "a place on paper")]
    let place = |(x, y): (u64, f64)| (x as f64, y);
    Line { name, points: rows.iter().map(|row| place(point(row))).collect() }
}

fn hello(report: &Report) -> Drawing {
    let rows = &report.hello;
    Drawing {
        file: "hello",
        title: "HELLOs answered in a second, and echoes",
        x: "sessions",
        y: "a second",
        log: true,
        lines: vec![
            line("HELLO", rows, |row| (row.sessions, row.per_second.median)),
            line("echo", rows, |row| (row.sessions, row.echo_per_second.median)),
            line("batched echo", rows, |row| (row.sessions, row.batched_echo_per_second.median)),
        ],
    }
}

fn cpu(report: &Report) -> Drawing {
    let cpu = line("registryd", &report.hello, |row| (row.sessions, row.paced_cpu_percent));
    Drawing {
        file: "cpu",
        title: "Share of one core for HELLO at the interval set",
        x: "sessions",
        y: "percent of one core",
        log: true,
        lines: vec![cpu],
    }
}

#[expect(clippy::cast_precision_loss, reason = "a place on paper")]
fn memory(report: &Report) -> Drawing {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let rows = &report.memory;
    Drawing {
        file: "memory",
        title: "Memory of the registry",
        x: "sessions",
        y: "MiB",
        log: true,
        lines: vec![
            line("all online", rows, |row| (row.sessions, mib(row.online_bytes))),
            line("peak", rows, |row| (row.sessions, mib(row.peak_bytes))),
        ],
    }
}

fn latency(
    file: &'static str,
    title: &'static str,
    x: &'static str,
    rows: &[SearchRow],
    of: impl Fn(&SearchRow) -> u64,
) -> Drawing {
    let lines = vec![
        line("half are faster", rows, |row| (of(row), row.p50_ms.median)),
        line("99 % are faster", rows, |row| (of(row), row.p99_ms.median)),
    ];
    Drawing { file, title, x, y: "ms, 64 under way", log: true, lines }
}

fn throughput(report: &Report) -> Drawing {
    let rows = &report.search_accounts;
    Drawing {
        file: "search-rate",
        title: "Searches answered in a second, and bare lookups",
        x: "accounts",
        y: "a second",
        log: true,
        lines: vec![
            line("search", rows, |row| (row.accounts, row.per_second.median)),
            line("lookup", rows, |row| (row.accounts, row.lookups_per_second.median)),
        ],
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type DrawError = Box<dyn std::error::Error>;

impl Drawing {
    fn onto(&self, area: &Area<'_>) -> Result<(), DrawError> {
        area.fill(&WHITE)?;
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let most = |part: fn(&(f64, f64)) -> f64| points().map(part).fold(0.0, f64::max);
        let least = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
        let (right, top) = (most(|p| p.0).max(least * 1.1), most(|p| p.1).max(1e-3) * 1.15);
        let mut builder = ChartBuilder::on(area);
        builder
            .caption(self.title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(80);
        macro_rules! fill {
            ($x:expr) => {{
                let mut chart = builder.build_cartesian_2d($x, 0.0..top)?;
                chart
                    .configure_mesh()
                    .x_desc(self.x)
                    .y_desc(self.y)
                    .x_label_formatter(&|value| number(*value))
                    .y_label_formatter(&|value| number(*value))
                    .draw()?;
                for (line, colour) in self.lines.iter().zip(COLOURS) {
                    let points = || line.points.iter().copied();
                    chart
                        .draw_series(LineSeries::new(points(), colour.stroke_width(2)))?
                        .label(line.name)
                        .legend(move |(x, y)| {
                            PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2))
                        });
                    if self.log {
                        chart.draw_series(points().map(|p| Circle::new(p, 3, colour.filled())))?;
                    }
                }
                chart
                    .configure_series_labels()
                    .position(SeriesLabelPosition::UpperLeft)
                    .background_style(WHITE.mix(0.8))
                    .draw()?;
            }};
        }
        if self.log {
            fill!((least.max(1.0)..right).log_scale());
        } else {
            fill!(0.0..right);
        }
        area.present()?;
        Ok(())
    }
}

/// Few digits, and thousands told by a letter.
fn number(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{} M", trimmed(v / 1e6)),
        v if v >= 1e3 => format!("{} k", trimmed(v / 1e3)),
        v => trimmed(v),
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
