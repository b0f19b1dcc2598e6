//! What `./x bench` makes of its measurements: statistics, the table, the chart, the page. The benchmark is a program
//! without a test harness, so its parts are tested here.

// Each part is tested for what can go wrong in it; the benchmark uses the rest, too.
#![allow(dead_code)]

#[path = "../benches/peers/chart.rs"]
mod chart;
#[path = "../benches/peers/goals.rs"]
mod goals;
#[path = "../benches/peers/page.rs"]
mod page;
#[path = "../benches/peers/report.rs"]
mod report;
#[path = "../benches/peers/statistics.rs"]
mod statistics;
#[path = "../benches/peers/units.rs"]
mod units;

use chart::{Bar, svg};
use goals::{Figure, Goal, Unit};
use report::{Measured, Outcome, Row};
use statistics::{Pairs, Sample, Spread};

fn spread(least: f64, median: f64, most: f64) -> Spread {
    Spread { least, median, most }
}

fn wall(wall: f64) -> Sample {
    Sample { wall, cpu: None }
}

#[test]
fn the_median_is_the_middle_one_or_between_the_middle_two() {
    assert_eq!(Spread::of([]), None);
    assert_eq!(Spread::of([7.0]), Some(spread(7.0, 7.0, 7.0)));
    assert_eq!(Spread::of([9.0, 1.0, 2.0]), Some(spread(1.0, 2.0, 9.0)));
    assert_eq!(Spread::of([9.0, 1.0, 2.0, 4.0]), Some(spread(1.0, 3.0, 9.0)));
    // Orders, not digits.
    assert_eq!(Spread::of([10.0, 9.0, 100.0]), Some(spread(9.0, 10.0, 100.0)));
}

#[test]
fn ratios_are_taken_within_pairs() {
    let mut pairs = Pairs::default();
    assert_eq!((pairs.speed_up(), pairs.cost(), pairs.ours()), (None, None, None));
    // The machine was busy in the second pair: each side took ten times as long, and the ratio is what it was.
    for (ours, peer) in [(1.0, 8.0), (10.0, 80.0), (2.0, 8.0)] {
        pairs.push(wall(ours), wall(peer));
    }
    assert_eq!(pairs.speed_up(), Some(spread(4.0, 8.0, 8.0)));
    assert_eq!(pairs.cost(), Some(spread(0.125, 0.125, 0.25)));
    assert_eq!(pairs.ours(), Some(spread(1.0, 2.0, 10.0)));
    assert_eq!(pairs.peer(), Some(spread(8.0, 8.0, 80.0)));
    assert_eq!(pairs.cpu(), [None, None]);
}

#[test]
fn processor_time_is_told_where_all_samples_have_it() {
    let mut pairs = Pairs::default();
    pairs.push(Sample { wall: 1.0, cpu: Some(3.0) }, Sample { wall: 8.0, cpu: Some(8.0) });
    pairs.push(Sample { wall: 1.0, cpu: Some(5.0) }, wall(8.0));
    assert_eq!(pairs.cpu(), [Some(spread(3.0, 4.0, 5.0)), None]);
}

#[test]
fn figures_have_three_digits_and_a_fitting_unit() {
    for (value, text) in
        [(0.5, "0.50"), (9.994, "9.99"), (9.996, "10.0"), (99.94, "99.9"), (99.96, "100"), (1234.5, "1234")]
    {
        assert_eq!(units::three(value), text);
    }
    assert_eq!(units::seconds(1.777), "1.78 s");
    assert_eq!(units::seconds(0.0071), "7.10 ms");
    assert_eq!(units::speed(0.25), "4.00 GiB/s");
    assert_eq!(units::mebibytes(4.25 * 1024.0 * 1024.0), "4.2");
    for (bytes, text) in [(2 << 30, "2 GiB"), (1 << 40, "1 TiB"), (64 << 20, "64 MiB"), (1000, "1000 bytes")]
    {
        assert_eq!(units::size(bytes), text);
    }
}

#[test]
fn floors_are_met_at_the_floor() {
    let times = |median| Figure { unit: Unit::Times, spread: spread(0.1, median, 1000.0) };
    assert!(Goal::FORMAT.is_met_by(&times(10.0)) && !Goal::FORMAT.is_met_by(&times(9.99)));
    assert!(Goal::COLD.is_met_by(&times(1.2)) && !Goal::COLD.is_met_by(&times(1.21)));
    // The highest peak counts, not a middle one.
    let peak = |most| Figure { unit: Unit::Bytes, spread: spread(1.0, 2.0, most) };
    let mib = 1024.0 * 1024.0;
    assert!(Goal::MEMORY.is_met_by(&peak(16.0 * mib)) && !Goal::MEMORY.is_met_by(&peak(16.1 * mib)));
    let texts = [Goal::FORMAT, Goal::OVERHEAD, Goal::EFFICIENCY, Goal::MEMORY].map(|goal| goal.text());
    assert_eq!(texts, ["≥ 10 ×", "≤ 1.15 ×", "≥ 70 %", "≤ 16 MiB"]);
}

fn rows() -> Vec<Row> {
    let measured = |spread| {
        let figure = Figure { unit: Unit::Times, spread };
        Outcome::Measured(Measured {
            ours: "171 ms".to_owned(),
            peer: "veritysetup 2.01 s".to_owned(),
            figure,
        })
    };
    let row = |title: &str, goal, applies, outcome| Row { title: title.to_owned(), goal, applies, outcome };
    vec![
        row("a|b", Some(Goal::FORMAT), true, measured(spread(11.0, 11.75, 12.5))),
        row("slow", Some(Goal::FORMAT), true, measured(spread(5.0, 6.0, 7.0))),
        row("elsewhere", Some(Goal::FORMAT), false, measured(spread(5.0, 6.0, 7.0))),
        row("no floor", None, false, measured(spread(0.5, 0.6, 0.7))),
        row("cold", Some(Goal::COLD), true, Outcome::Skipped("no disk".to_owned())),
    ]
}

#[test]
fn a_floor_is_met_missed_or_not_applicable() {
    let met: Vec<_> = rows().iter().map(Row::met).collect();
    assert_eq!(met, [Some(true), Some(false), None, None, None]);
}

#[test]
fn the_tables_columns_are_aligned() {
    let expected = "\
case       ours    peer                ratio (least to most)  floor    met
a|b        171 ms  veritysetup 2.01 s  11.8 × (11.0 to 12.5)  ≥ 10 ×   yes
slow       171 ms  veritysetup 2.01 s  6.00 × (5.00 to 7.00)  ≥ 10 ×   no
elsewhere  171 ms  veritysetup 2.01 s  6.00 × (5.00 to 7.00)  ≥ 10 ×   n/a
no floor   171 ms  veritysetup 2.01 s  0.60 × (0.50 to 0.70)  -        -
cold       -       -                   skipped: no disk       ≤ 1.2 ×  -
";
    assert_eq!(report::text(&rows()), expected);
}

#[test]
fn the_pages_table_has_its_cells_whatever_is_in_them() {
    let table = report::markdown(&rows());
    assert_eq!(table.lines().count(), 2 + rows().len());
    let bars = |line: &str| line.replace("\\|", "").matches('|').count();
    assert!(table.lines().all(|line| bars(line) == 7), "{table}");
}

#[test]
fn only_what_is_between_the_marks_is_replaced() {
    let (begin, end) = ("<!-- ./x bench --write: from here -->\n", "<!-- ./x bench --write: to here -->\n");
    let page = format!("before\n{begin}old\n{end}after\n");
    let new = page::replaced(&page, "new\n").unwrap();
    assert_eq!(new, format!("before\n{begin}new\n{end}after\n"));
    assert_eq!(page::replaced(&new, "new\n"), Some(new));
    for broken in ["".to_owned(), begin.to_owned(), format!("{end}{begin}"), format!("{page}{page}")] {
        assert_eq!(page::replaced(&broken, "new\n"), None, "{broken}");
    }
    let project = include_str!("../../docs/performance.md");
    assert!(page::replaced(project, "new\n").is_some(), "the project's own page");
}

fn bar(label: &str, spread: Spread, floor: Option<f64>) -> Bar {
    Bar { label: label.to_owned(), spread, floor }
}

/// The numbers of an attribute, over the whole picture.
fn numbers(svg: &str, attribute: &str) -> Vec<f64> {
    let name = format!(" {attribute}=\"");
    let parts = svg.split(&name).skip(1);
    parts.filter_map(|part| part.split('"').next()?.parse().ok()).collect()
}

#[test]
fn bars_grow_with_the_logarithm_of_the_ratio() {
    let bars = [1.0, 10.0, 100.0].map(|ratio| bar("x", spread(ratio, ratio, ratio), None));
    let picture = svg("title", "subtitle", &bars);
    // After the background's, which is no plain number, the bars'; before it the picture's own.
    let widths = numbers(&picture, "width")[1..].to_vec();
    assert_eq!(widths[0], 0.0);
    assert!((widths[2] - 2.0 * widths[1]).abs() < 0.2, "{widths:?}");
    for tick in ["1 ×", "2 ×", "50 ×", "100 ×"] {
        assert!(picture.contains(&format!(">{tick}</text>")), "{tick}");
    }
}

#[test]
fn a_peer_that_is_faster_has_its_bar_on_the_other_side() {
    let bars = [bar("slower", spread(0.4, 0.5, 0.6), None), bar("faster", spread(4.0, 5.0, 6.0), Some(7.0))];
    let picture = svg("title", "subtitle", &bars);
    let rectangles: Vec<&str> = picture.split("<rect ").skip(2).collect();
    let (slower, faster) =
        (numbers(&format!(" {}", rectangles[0]), "x")[0], numbers(&format!(" {}", rectangles[1]), "x")[0]);
    assert!(slower < faster);
    assert_eq!(picture.matches("#e45756").count(), 1, "one floor");
}

#[test]
fn nothing_leaves_the_picture() {
    let extremes = [
        bar("small", spread(0.01, 0.02, 0.03), Some(0.005)),
        bar("large", spread(100.0, 5000.0, 90000.0), Some(1e5)),
        bar("nonsense", spread(0.0, 0.0, 0.0), None),
    ];
    for bars in [&extremes[..], &extremes[..1], &[]] {
        let picture = svg("title", "subtitle", bars);
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
        assert!(
            picture.starts_with("<svg ") && picture.ends_with("\n</svg>\n") && !picture.contains('\\'),
            "{picture}"
        );
        assert!(numbers(&picture, "x").iter().all(|x| (0.0..=860.0).contains(x)), "{picture}");
        assert!(numbers(&picture, "width").iter().all(|width| (0.0..=860.0).contains(width)), "{picture}");
    }
}

#[test]
fn text_in_the_picture_is_escaped() {
    let picture = svg("a < b", "\"c\" & d", &[bar("<script>", spread(1.0, 2.0, 3.0), None)]);
    assert!(picture.contains("a &lt; b") && picture.contains("&quot;c&quot; &amp; d"));
    assert!(picture.contains("&lt;script&gt;") && !picture.contains("<script>"));
}
