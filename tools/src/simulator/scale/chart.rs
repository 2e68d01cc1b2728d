//! Latency by stake as a line for each stage, in SVG.

use std::fmt::Write;

use super::report::Distribution;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Told apart by the colour-blind, too.
const COLOURS: [&str; 4] = ["#999999", "#56b4e9", "#e69f00", "#009e73"];

/// The picture. Shares of stake are drawn from left to right, milliseconds upwards.
pub(super) fn svg(title: &str, distributions: &[Distribution]) -> String {
    let highest_ms =
        distributions.iter().flat_map(|distribution| distribution.p50_ms.iter().flatten()).copied().fold(1.0, f64::max);
    let step_ms = step(highest_ms);
    let most_ms = step_ms * (highest_ms / step_ms).ceil();
    let x = |percent: f64| LEFT + (WIDTH - LEFT - RIGHT) * percent / 100.0;
    let y = |ms: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * ms / most_ms;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{title}</text>\n"
    );
    let mut line = |text: String| writeln!(svg, "{text}").expect("a string takes all");
    for percent in (0..=100).step_by(10).map(f64::from) {
        let (at, bottom) = (x(percent), y(0.0));
        line(format!("<path d=\"M{at:.1} {TOP}V{bottom:.1}\" stroke=\"#e5e5e5\"/>"));
        line(format!("<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{percent}%</text>", bottom + 18.0));
    }
    let mut ms = 0.0;
    while ms <= most_ms {
        line(format!("<path d=\"M{LEFT} {:.1}H{:.1}\" stroke=\"#e5e5e5\"/>", y(ms), x(100.0)));
        line(format!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{ms}</text>", LEFT - 8.0, y(ms) + 4.0));
        ms += step_ms;
    }
    let (middle, bottom) = (x(50.0), HEIGHT - 12.0);
    line(format!("<text x=\"{middle:.1}\" y=\"{bottom:.1}\" text-anchor=\"middle\">stake that got so far</text>"));
    line(format!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">ms</text>", LEFT - 8.0, TOP - 8.0));
    for (position, (distribution, colour)) in distributions.iter().zip(COLOURS).enumerate() {
        let reached = (1..).zip(&distribution.p50_ms).filter_map(|(percent, ms)| Some((percent, (*ms)?)));
        let points: String =
            reached.map(|(percent, ms)| format!("{:.1},{:.1} ", x(f64::from(percent)), y(ms))).collect();
        line(format!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\" points=\"{}\"/>",
            points.trim_end()
        ));
        let (legend_x, legend_y) = (x(100.0) + 14.0, TOP + 14.0 + 22.0 * (3 - position.min(3)) as f64);
        line(format!("<path d=\"M{legend_x:.1} {legend_y:.1}h16\" stroke=\"{colour}\" stroke-width=\"2.5\"/>"));
        line(format!("<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", legend_x + 20.0, legend_y + 4.0, distribution.stage));
    }
    svg.push_str("</svg>\n");
    svg
}

/// A round step that gives up to ten lines.
fn step(most_ms: f64) -> f64 {
    let steps = (0..9).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
    steps.into_iter().find(|step| most_ms / step <= 10.0).unwrap_or(1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_is_a_line_within_the_picture() {
        let distribution = |stage, ms: f64| Distribution {
            stage,
            p50_ms: (1..=100).map(|percent| (percent < 100).then_some(ms + f64::from(percent))).collect(),
            p10_ms: vec![None; 100],
            p90_ms: vec![None; 100],
        };
        let svg = svg("a title", &[distribution("network", 10.0), distribution("finalized", 170.0)]);
        assert_eq!((svg.matches("<polyline").count(), svg.matches("NaN").count()), (2, 0));
        let points = svg.split("points=\"").skip(1).flat_map(|rest| rest.split('"').next().unwrap().split(' '));
        for point in points {
            let (x, y) = point.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y), "{point}");
        }
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([9.0, 11.0, 270.0, 999.0].map(step), [1.0, 2.0, 50.0, 100.0]);
    }
}
