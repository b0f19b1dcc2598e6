//! The chart: how many times as fast as the peer, one bar a case, on a logarithmic scale that begins at 1.

use std::fmt::Write;

use crate::statistics::Spread;

/// A case in the chart.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) label: String,
    /// Ratios, all above zero.
    pub(crate) spread: Spread,
    /// Marked on the bar.
    pub(crate) floor: Option<f64>,
}

const WIDTH: f64 = 860.0;
/// Where labels end and bars begin.
const LEFT: f64 = 330.0;
/// Room behind the longest bar for its figure.
const RIGHT: f64 = 70.0;
const TOP: f64 = 64.0;
const STEP: f64 = 26.0;
const THICKNESS: f64 = 15.0;

/// Maps ratios to places between the chart's edges.
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    fn of(bars: &[Bar]) -> Self {
        let values = bars.iter().flat_map(|bar| [Some(bar.spread.least), Some(bar.spread.most), bar.floor]);
        let range = Spread::of(values.flatten().chain([1.0, 10.0]));
        let (least, most) = range.map_or((1.0, 10.0), |range| (range.least, range.most));
        Self { least: least.max(1e-3), most }
    }

    fn x(&self, ratio: f64) -> f64 {
        let place = (ratio.max(self.least) / self.least).ln() / (self.most / self.least).ln();
        LEFT + place * (WIDTH - LEFT - RIGHT)
    }

    /// 1, 2 and 5 of each power of ten within the scale.
    fn ticks(&self) -> Vec<f64> {
        let steps = (-3..=6).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
        steps.filter(|tick| (self.least..=self.most).contains(tick)).collect()
    }
}

/// Draws the chart; a picture of nothing but its title if there are no bars.
pub(crate) fn svg(title: &str, subtitle: &str, bars: &[Bar]) -> String {
    let scale = Scale::of(bars);
    let bottom = bars.iter().fold(TOP, |bottom, _| bottom + STEP);
    let height = bottom + 30.0;
    let mut svg = String::new();
    // Writing to a string does not fail.
    let _ = write!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" font-family="sans-serif" font-size="12" fill="#222">
<title>{title}</title>
<rect width="100%" height="100%" fill="#fff"/>
<text x="16" y="24" font-size="16" font-weight="bold">{title}</text>
<text x="16" y="43" fill="#666">{subtitle}</text>
"##,
        title = escaped(title),
        subtitle = escaped(subtitle),
    );
    for tick in scale.ticks() {
        let x = scale.x(tick);
        let _ = writeln!(
            svg,
            r##"<path d="M{x:.1} {TOP}V{bottom}" stroke="#ddd"/><text x="{x:.1}" y="{y}" text-anchor="middle" fill="#666">{tick} ×</text>"##,
            y = bottom + 17.0,
        );
    }
    for (bar, top) in bars.iter().zip((0_u32..).map(|row| TOP + STEP * f64::from(row) + 5.0)) {
        draw(&mut svg, &scale, bar, top);
    }
    let _ = writeln!(svg, r##"<path d="M{x:.1} {TOP}V{bottom}" stroke="#888"/>"##, x = scale.x(1.0));
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, scale: &Scale, bar: &Bar, top: f64) {
    let Spread { least, median, most } = bar.spread;
    let (origin, end) = (scale.x(1.0), scale.x(median));
    let (middle, baseline) = (top + THICKNESS / 2.0, top + THICKNESS - 3.0);
    let _ = writeln!(
        svg,
        r##"<text x="{label}" y="{baseline}" text-anchor="end">{text}</text><rect x="{x:.1}" y="{top}" width="{width:.1}" height="{THICKNESS}" fill="#4c78a8"/>"##,
        label = LEFT - 8.0,
        text = escaped(&bar.label),
        x = origin.min(end),
        width = (end - origin).abs(),
    );
    if let Some(floor) = bar.floor {
        let _ = writeln!(
            svg,
            r##"<path d="M{x:.1} {y}v{length}" stroke="#e45756" stroke-width="2"/>"##,
            x = scale.x(floor),
            y = top - 3.0,
            length = THICKNESS + 6.0,
        );
    }
    let (from, to) = (scale.x(least), scale.x(most));
    let _ = writeln!(
        svg,
        r##"<path d="M{from:.1} {middle}H{to:.1}M{from:.1} {y}v6M{to:.1} {y}v6" stroke="#222" fill="none"/><text x="{x:.1}" y="{baseline}">{figure}</text>"##,
        y = middle - 3.0,
        x = to.max(end).max(origin) + 8.0,
        figure = crate::units::three(median),
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
