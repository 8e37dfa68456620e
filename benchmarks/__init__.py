"""Speed and quality beside the peers: `make bench`, or `python -m benchmarks SECTION ...` for some sections alone.

A section is a module of this package, named in `SECTIONS`, with

    TITLE: str
        Its heading in docs/benchmarks.md.
    run(settings: Settings, *, quick: bool, root: Path | None) -> dict[str, Any]
        Measures and returns what json can hold. `quick` is a tiny setting that shows that it works; `root` is a
        folder with CelebA, None the built-in faces; a section that needs no pictures ignores it.
    markdown(content: dict[str, Any]) -> str
        What stands under the heading: from what `run` returned, and from nothing else.
    figures(content: dict[str, Any]) -> dict[str, Figure]
        Charts by name; `markdown` shows one as `![what is seen](benchmarks/NAME.png)`.

What a section found is written to reports/benchmarks.json as soon as it is done: under the section's name its
`machine` (what it ran on), `seconds`, `command` and `found`, the content. docs/benchmarks.md and docs/benchmarks/ are
made from that file and benchmarks/notes.md alone.
"""

SECTIONS = ("encoders", "quality", "data_path", "growth", "gpu")
