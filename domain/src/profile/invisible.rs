//! Characters that a reader does not see.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Whether Unicode says that it formats text (category `Cf`) or that it shows nothing where it is not understood.
pub(super) fn is_invisible(character: char) -> bool {
    CodePointMapData::<GeneralCategory>::new().get(character) == GeneralCategory::Format
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
}

/// Whether a text made of it alone looks blank.
pub(super) fn shows_nothing(character: char) -> bool {
    const BRAILLE_BLANK: char = '\u{2800}';
    character.is_whitespace() || character == BRAILLE_BLANK || is_invisible(character)
}
