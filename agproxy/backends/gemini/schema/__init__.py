"""JSON Schemas for Gemini: as they are where upstream takes JSON Schema, else turned into Gemini's own Schema.

    native       what the native fields are known to break on, and only that      clean_json_schema
    convert      JSON Schema -> Schema, and back from the answer's values         to_gemini_schema, restore_value
    merge        all that holds at one place, with $ref and allOf resolved
    words        tables of keywords, and what descriptions say of constraints
    references   where schemas stand in a schema, and what $ref points to

Pure: nothing is fetched, no input is modified, no schema raises. Knows no requests; `encode` calls it.
"""

from .convert import Converted, Restore, restore_value, to_gemini_schema
from .native import clean_json_schema

__all__ = ["Converted", "Restore", "clean_json_schema", "restore_value", "to_gemini_schema"]
