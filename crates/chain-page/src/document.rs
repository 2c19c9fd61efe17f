//! Writes the page: a document of its own, or a frame in a notebook.

use maud::html;

use crate::content::Page;
use crate::error::Result;
use crate::fit::{Fit, MAP_BUDGET, NOTEBOOK_BUDGET};
use crate::{check, markup};

/// The mark by which a file is known to be such a page.
pub const MARK: &str = "<meta name=\"generator\" content=\"tokenrank show\">";

impl Page {
    /// Returns the page as a self-contained HTML document. It has 2.7 bytes for each entry of its maps, of which there are at
    /// most [`MAP_BUDGET`]: if all do not fit, the maps of the heads of the first layers are left out, then those of all heads
    /// and the first layers, and the page says so.
    ///
    /// # Errors
    /// The content contradicts itself: a map is not row-stochastic or does not have a row for every token, the start is not a
    /// distribution, a setting lies outside its range, or an image is not a PNG file.
    pub fn to_html(&self) -> Result<String> {
        self.document(MAP_BUDGET, markup::Place::File)
    }

    /// Returns an HTML element with the page for the output of a notebook's cell: a frame `height` CSS pixels high, as wide as
    /// the cell. Scripts of the page run, but cannot reach the notebook. Since the notebook's file holds the page, its maps
    /// have at most [`NOTEBOOK_BUDGET`] entries.
    ///
    /// # Errors
    /// As [`Page::to_html`].
    pub fn to_notebook(&self, height: u32) -> Result<String> {
        let document = self.document(NOTEBOOK_BUDGET, markup::Place::Frame)?;
        let style = format!("display: block; width: 100%; height: {height}px; border: 0;");
        let frame = html! {
            iframe title=(escape::line(&self.title)) sandbox="allow-scripts" style=(style) srcdoc=(document) {}
        };
        Ok(frame.into_string())
    }

    fn document(&self, budget: usize, place: markup::Place) -> Result<String> {
        let fit = Fit::new(self, budget);
        let triangles = check::check(self, fit)?;
        let document = markup::document(self, fit, &triangles, place).into_string();
        Ok(escape::text(&document).into_owned())
    }
}
