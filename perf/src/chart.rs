//! The chart: one SVG with a panel for each kind of figure, a bar for each median, a whisker from minimum to maximum.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::machine::Machine;
use crate::record::{Metric, Record};
use crate::targets::{VPP_GRAPH_CLOCKS, target_of};

const WIDTH: u32 = 1000;
const HEAD_HEIGHT: u32 = 104;
const ROW_HEIGHT: u32 = 22;
/// Caption and axis of a panel.
const PANEL_FRAME_HEIGHT: u32 = 78;
const LEAST_LABEL_WIDTH: u32 = 170;
/// One character of a label, in the font of labels.
const LABEL_CHARACTER_WIDTH: u32 = 7;

const INK: RGBColor = RGBColor(40, 40, 40);
const GREY: RGBColor = RGBColor(110, 110, 110);
const BAR: RGBColor = RGBColor(132, 182, 214);

/// A figure that is not ours, or not measured: a stroke across the bar.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stroke {
    Goal,
    TestpmdIo,
    TestpmdMacswap,
    Vpp,
}

impl Stroke {
    const ALL: [Self; 4] = [Self::Goal, Self::TestpmdIo, Self::TestpmdMacswap, Self::Vpp];

    const fn colour(self) -> RGBColor {
        match self {
            Self::Goal => RGBColor(200, 30, 30),
            Self::TestpmdIo => RGBColor(90, 90, 90),
            Self::TestpmdMacswap => RGBColor(20, 90, 50),
            Self::Vpp => RGBColor(140, 70, 160),
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Goal => "goal",
            Self::TestpmdIo => "testpmd io (median)",
            Self::TestpmdMacswap => "testpmd macswap (median)",
            Self::Vpp => "VPP (on another machine)",
        }
    }
}

struct Bar<'a> {
    record: &'a Record,
    strokes: Vec<(Stroke, f64)>,
}

struct Panel<'a> {
    title: &'static str,
    bars: Vec<Bar<'a>>,
}

/// The chart of `records` as SVG text.
pub fn svg(records: &[Record], machine: &Machine) -> Result<String> {
    let panels = panels(records);
    let height = HEAD_HEIGHT + panels.iter().map(height_of).sum::<u32>();
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).map_err(drawing)?;
        let (head, mut rest) = root.split_vertically(HEAD_HEIGHT);
        draw_head(&head, machine, &used(&panels)).map_err(drawing)?;
        for panel in &panels {
            let (area, below) = rest.split_vertically(height_of(panel));
            draw_panel(&area, panel).map_err(drawing)?;
            rest = below;
        }
        root.present().map_err(drawing)?;
    }
    Ok(text)
}

fn drawing<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> anyhow::Error {
    anyhow!("cannot draw the chart: {error}")
}

fn height_of(panel: &Panel) -> u32 {
    let rows = u32::try_from(panel.bars.len()).expect("there are a few dozen cases");
    PANEL_FRAME_HEIGHT + rows * ROW_HEIGHT
}

fn panels(records: &[Record]) -> Vec<Panel<'_>> {
    [
        (
            "Packets per second on devices, one core, Mpps",
            Metric::Mpps,
        ),
        (
            "Share of testpmd macswap, same devices, same round",
            Metric::RatioToTestpmdMacswap,
        ),
        (
            "Share of testpmd io, same devices, same round",
            Metric::RatioToTestpmdIo,
        ),
        (
            "The packet graph alone, TSC clocks per packet",
            Metric::GraphClkPerPacket,
        ),
        (
            "Lookups per second in prefix tables, one core, millions",
            Metric::MlookupsPerS,
        ),
        (
            "Prefix tables: times rte_fib6, same addresses, same round",
            Metric::RatioToRteFib6,
        ),
        ("Prefix tables: times rte_lpm6", Metric::RatioToRteLpm6),
        ("Prefix tables: times rte_fib (IPv4)", Metric::RatioToRteFib),
        ("Prefix tables: times rte_lpm (IPv4)", Metric::RatioToRteLpm),
        ("Prefix tables: times rte_hash", Metric::RatioToRteHash),
        (
            "Prefix tables: times the best Rust crate, single lookups",
            Metric::RatioToBestCrate,
        ),
        ("Cold burst of 32 lookups, ns", Metric::BurstNs),
        (
            "Cold burst: time over that of rte_fib6, less is better",
            Metric::TimeRatioToRteFib6,
        ),
        ("Bytes of a prefix table", Metric::Bytes),
        ("Bytes per prefix", Metric::BytesPerPrefix),
        ("Building a table, ms", Metric::BuildMs),
        ("Update, median, us", Metric::UpdateUsMedian),
        ("Update, 99th percentile, us", Metric::UpdateUsP99),
        ("Updates per second", Metric::UpdatesPerS),
        (
            "Wrong answers before, during and after updates",
            Metric::WrongAnswers,
        ),
        ("Bytes per LISP mapping", Metric::BytesPerMapping),
        (
            "Forwarding beside updates of mappings over that without",
            Metric::RatioToQuiet,
        ),
        ("Lost packets", Metric::LostPackets),
        ("Misdirected packets", Metric::MisdirectedPackets),
        (
            "From a locator's change to the last packet by its old state, us",
            Metric::EffectUs,
        ),
        (
            "Flows that a locator's or a server's loss moved wrongly, of 100,000",
            Metric::WronglyMovedFlows,
        ),
        ("New flows per second, one core", Metric::FlowsPerS),
        (
            "Packets per second over that with 1,024 flows",
            Metric::RatioTo1k,
        ),
        (
            "Cells of other servers that change when one leaves, %",
            Metric::MovedPercent,
        ),
        (
            "Bursts that a locator's change came late to",
            Metric::LateBursts,
        ),
    ]
    .into_iter()
    .map(|(title, metric)| Panel {
        title,
        bars: records
            .iter()
            .filter(|record| record.metric == metric)
            .map(|record| Bar {
                record,
                strokes: strokes_of(record, records),
            })
            .collect(),
    })
    .filter(|panel| !panel.bars.is_empty())
    .collect()
}

fn used(panels: &[Panel<'_>]) -> Vec<Stroke> {
    let is_used = |stroke: &Stroke| {
        let mut bars = panels.iter().flat_map(|panel| &panel.bars);
        bars.any(|bar| bar.strokes.iter().any(|(used, _)| used == stroke))
    };
    Stroke::ALL.into_iter().filter(is_used).collect()
}

fn strokes_of(record: &Record, records: &[Record]) -> Vec<(Stroke, f64)> {
    let mut strokes = Vec::new();
    if let Some(bound) = target_of(record) {
        strokes.push((Stroke::Goal, bound.figure()));
    }
    if record.metric == Metric::Mpps {
        let beside = [
            (Stroke::TestpmdIo, Metric::TestpmdIoMpps),
            (Stroke::TestpmdMacswap, Metric::TestpmdMacswapMpps),
        ];
        for (stroke, metric) in beside {
            let other = records
                .iter()
                .find(|other| other.case == record.case && other.metric == metric);
            strokes.extend(other.map(|other| (stroke, other.median)));
        }
    }
    if record.metric == Metric::GraphClkPerPacket {
        let vpp = VPP_GRAPH_CLOCKS
            .iter()
            .find(|(case, _)| *case == record.case);
        strokes.extend(vpp.map(|(_, clocks)| (Stroke::Vpp, *clocks)));
    }
    strokes
}

/// Width of the longest label of a panel.
fn label_width(panel: &Panel<'_>) -> u32 {
    let longest = panel.bars.iter().map(|bar| bar.record.case.len()).max();
    let characters = u32::try_from(longest.unwrap_or(0)).expect("a few words");
    LEAST_LABEL_WIDTH.max((characters + 2) * LABEL_CHARACTER_WIDTH)
}

type Area<'a, 'b> = DrawingArea<SVGBackend<'b>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// `used`: the strokes that some panel draws.
fn draw_head(area: &Area<'_, '_>, machine: &Machine, used: &[Stroke]) -> Drawn {
    let text = |size: u32| ("sans-serif", size).into_font();
    area.draw(&Text::new(
        "Sextant: throughput",
        (16, 12),
        text(22).color(&INK),
    ))?;
    let provenance = machine.to_string();
    let (first, second) = provenance.split_once("; ").unwrap_or((&provenance, ""));
    area.draw(&Text::new(
        first.to_owned(),
        (16, 40),
        text(12).color(&GREY),
    ))?;
    area.draw(&Text::new(
        second.to_owned(),
        (16, 56),
        text(12).color(&GREY),
    ))?;
    let mut x = 16;
    area.draw(&Rectangle::new([(x, 80), (x + 18, 92)], BAR.filled()))?;
    area.draw(&PathElement::new(
        [(x + 12, 86), (x + 26, 86)],
        INK.stroke_width(1),
    ))?;
    area.draw(&Text::new(
        "median; minimum to maximum",
        (x + 32, 80),
        text(12).color(&INK),
    ))?;
    x += 220;
    for stroke in used {
        area.draw(&PathElement::new(
            [(x, 78), (x, 94)],
            stroke.colour().stroke_width(3),
        ))?;
        area.draw(&Text::new(stroke.text(), (x + 8, 80), text(12).color(&INK)))?;
        x += 40 + 7 * i32::try_from(stroke.text().len()).expect("a few words");
    }
    Ok(())
}

fn draw_panel(area: &Area<'_, '_>, panel: &Panel<'_>) -> Drawn {
    let font = |size: u32| ("sans-serif", size).into_font().color(&INK);
    let greatest = panel
        .bars
        .iter()
        .flat_map(|bar| {
            bar.strokes
                .iter()
                .map(|(_, figure)| *figure)
                .chain([bar.record.max])
        })
        .fold(0.0, f64::max);
    // `as`: a few dozen rows.
    let rows = panel.bars.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, font(15))
        .margin_right(40)
        .x_label_area_size(30)
        .y_label_area_size(label_width(panel))
        .build_cartesian_2d(0.0..(greatest * 1.12).max(f64::MIN_POSITIVE), 0.0..rows)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .y_max_light_lines(0)
        .x_max_light_lines(0)
        .x_labels(10)
        .x_label_formatter(&|figure| format!("{}", (figure * 100.0).round() / 100.0))
        .bold_line_style(RGBColor(225, 225, 225))
        .axis_style(GREY)
        .label_style(font(12))
        .draw()?;
    for (row, bar) in panel.bars.iter().enumerate() {
        // `as`: a few dozen rows.
        let y = rows - row as f64 - 0.5;
        let Record {
            min, median, max, ..
        } = *bar.record;
        chart.draw_series([Rectangle::new(
            [(0.0, y - 0.34), (median, y + 0.34)],
            BAR.filled(),
        )])?;
        chart.draw_series([
            PathElement::new([(min, y), (max, y)], INK.stroke_width(1)),
            PathElement::new([(min, y - 0.16), (min, y + 0.16)], INK.stroke_width(1)),
            PathElement::new([(max, y - 0.16), (max, y + 0.16)], INK.stroke_width(1)),
        ])?;
        chart.draw_series(bar.strokes.iter().map(|(stroke, figure)| {
            PathElement::new(
                [(*figure, y - 0.44), (*figure, y + 0.44)],
                stroke.colour().stroke_width(3),
            )
        }))?;
        let (left, middle) = chart.backend_coord(&(0.0, y));
        let (right, _) = chart.backend_coord(&(max, y));
        // backend_coord speaks of the whole drawing, the area of itself.
        let origin = area.get_base_pixel();
        let at = |x: i32| (x - origin.0, middle - origin.1);
        let label = font(12).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new(bar.record.case.clone(), at(left - 8), label))?;
        let value = font(11).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(format!("{:.2}", median), at(right + 6), value))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_names_the_machine_every_case_and_the_goals() {
        let records = [
            Record::of(
                "npt66",
                "npt66-out/64B/1k",
                Metric::Mpps,
                &[20.0, 21.0, 19.0],
            ),
            Record::of(
                "npt66",
                "npt66-out/64B/1k",
                Metric::TestpmdMacswapMpps,
                &[25.0, 26.0, 24.0],
            ),
            Record::of(
                "npt66",
                "npt66-out/64B/1k",
                Metric::RatioToTestpmdMacswap,
                &[0.8, 0.82, 0.79],
            ),
            Record::of(
                "graph",
                "forward/64B/64k",
                Metric::GraphClkPerPacket,
                &[61.0, 60.0, 66.0],
            ),
        ];
        let machine = Machine::look();
        let text = svg(&records, &machine).expect("a chart");
        assert!(text.starts_with("<svg"));
        for part in [
            "npt66-out/64B/1k",
            "forward/64B/64k",
            "goal",
            machine.kernel.as_str(),
        ] {
            assert!(text.contains(part), "{part} is not in the chart");
        }
        assert_eq!(panels(&records).len(), 3);
    }
}
