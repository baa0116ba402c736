//! Lines over categories, as an SVG file. The upright axis is logarithmic from 1 up, and has a place for 0:
//! a contestant that never fails is to be seen.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

/// What is drawn.
#[derive(Debug)]
pub struct Picture<'a> {
    /// Above it.
    pub title: &'a str,
    /// Below it: what the categories are.
    pub across: &'a str,
    /// At its side: what the values are.
    pub upright: &'a str,
    /// From left to right.
    pub categories: Vec<String>,
    /// Each with its name, and a value for each category.
    pub lines: Vec<(String, Vec<f64>)>,
}

const SIZE: (u32, u32) = (860, 480);

/// Ours in the first, and thicker.
const COLOURS: [RGBColor; 9] = [
    RGBColor(200, 30, 30),
    RGBColor(40, 40, 40),
    RGBColor(30, 100, 200),
    RGBColor(20, 140, 80),
    RGBColor(150, 80, 170),
    RGBColor(210, 130, 20),
    RGBColor(100, 160, 190),
    RGBColor(160, 110, 60),
    RGBColor(230, 130, 150),
];

impl Picture<'_> {
    /// Draws it into the file `path`.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn draw(&self, path: impl AsRef<Path>) -> Result<(), Box<dyn Error>> {
        let mut svg = String::new();
        self.draw_on(&SVGBackend::with_string(&mut svg, SIZE).into_drawing_area())
            .map_err(|error| error.to_string())?;
        std::fs::write(path, svg)?;
        Ok(())
    }

    fn draw_on<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, plotters::coord::Shift>,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        area.fill(&WHITE)?;
        let values = self.lines.iter().flat_map(|(_, values)| values);
        let top = values.fold(1.0, |top: f64, &value| top.max(height(value))).ceil();
        let right = self.categories.len().saturating_sub(1) as f64;
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 21))
            .margin(12)
            .margin_right(24)
            .x_label_area_size(44)
            .y_label_area_size(64)
            // With a place for the names at the right, where no line crosses them.
            .build_cartesian_2d(-0.2..right * 1.45, 0.0..top)?;
        let category = |place: &f64| {
            let is_whole = place.fract().abs() < 1e-6 && *place > -0.1;
            let name = self.categories.get(place.round() as usize).filter(|_| is_whole);
            name.cloned().unwrap_or_default()
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(self.categories.len() * 2)
            .y_labels(top as usize + 1)
            .x_label_formatter(&category)
            .y_label_formatter(&|height| value_at(*height))
            .x_desc(self.across)
            .y_desc(self.upright)
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", 17))
            .draw()?;
        for (index, (name, values)) in self.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let style = colour.stroke_width(if index == 0 { 4 } else { 2 });
            let points = values.iter().enumerate().filter(|(_, value)| value.is_finite());
            let points: Vec<_> = points.map(|(at, &value)| (at as f64, height(value))).collect();
            chart
                .draw_series(LineSeries::new(points.iter().copied(), style))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
            chart.draw_series(points.iter().map(|&at| Circle::new(at, 3, colour.filled())))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE)
            .border_style(RGBColor(200, 200, 200))
            .label_font(("sans-serif", 17))
            .draw()?;
        area.present()
    }
}

/// Where a value stands: 0 at 0, 1 at 1, 10 at 2, 100 at 3; between 0 and 1 in proportion.
fn height(value: f64) -> f64 {
    if value < 1.0 { value.max(0.0) } else { 1.0 + value.log10() }
}

/// The value at a whole height; nothing between them.
fn value_at(height: f64) -> String {
    let whole = height.round();
    if (height - whole).abs() > 1e-6 {
        return String::new();
    }
    if whole < 1.0 { "0".to_owned() } else { format!("{}", 10_f64.powf(whole - 1.0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_has_a_place() {
        assert_eq!([0.0, 0.5, 1.0, 1000.0].map(height), [0.0, 0.5, 1.0, 4.0]);
        assert_eq!([0.0, 1.0, 1.5, 4.0].map(value_at), ["0", "1", "", "1000"]);
    }

    #[test]
    fn a_picture_has_its_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("picture.svg");
        let lines =
            vec![("ours".to_owned(), vec![0.0, 0.0]), ("peer".to_owned(), vec![3.0, 200.0])];
        let categories = vec!["1".to_owned(), "64".to_owned()];
        let picture =
            Picture { title: "A title", across: "processes", upright: "us", categories, lines };
        picture.draw(&path).unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        for word in ["A title", "processes", "ours", "peer", "64", "100"] {
            assert!(svg.contains(&format!("\n{word}\n")), "{word} is not in {svg}");
        }
    }
}
