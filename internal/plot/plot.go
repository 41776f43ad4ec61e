// Package plot draws bars as SVG, to stand in a README: on a page that is light
// or dark, in whatever font the reader has, without a script.
package plot

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// A Class says what a bar stands for, and so its colour.
type Class string

const (
	// Ours is what the figure is about.
	Ours Class = "ours"
	// Rival is what it is compared with.
	Rival Class = "rival"
	// Limit is what nothing can surpass, or hardly.
	Limit Class = "limit"
)

// A Figure is panels below each other.
type Figure struct {
	Title string
	// Subtitle and Footer are lines of small print.
	Subtitle string
	Panels   []Panel
	Footer   []string
}

// A Panel is bars with one scale, which begins at zero.
type Panel struct {
	Title string
	Bars  []Bar
}

// A Bar is one measurement.
type Bar struct {
	Label string
	Class Class
	// Value is its length; a negative number or NaN draws none, and leaves
	// Text to say why.
	Value float64
	// Low and High are the ends of a whisker, if High is above Low.
	Low, High float64
	// Text stands beside the bar.
	Text string
}

// Sizes in pixels. Widths of texts are estimates, since fonts differ: bars end
// early enough for the longest text beside them.
const (
	width     = 760
	margin    = 20
	labelRoom = 250
	barHeight = 16
	rowHeight = 24
	perRune   = 6.6
)

const style = `
    text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
    .title { font-size: 17px; font-weight: 600 }
    .panel { font-weight: 600 }
    .small { font-size: 12px; fill: #59636e }
    .value { font-variant-numeric: tabular-nums }
    .ours { fill: #0969da } .rival { fill: #8c959f } .limit { fill: #d0d7de }
    .whisker { stroke: #1f2328; stroke-width: 1.2; opacity: .65 }
    .axis { stroke: #d0d7de }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 } .small { fill: #9198a1 }
      .ours { fill: #4493f8 } .rival { fill: #656c76 } .limit { fill: #3d444d }
      .whisker { stroke: #e6edf3 } .axis { stroke: #3d444d }
    }
`

// SVG returns the figure as a document.
func (f *Figure) SVG() []byte {
	var d drawing
	d.text("title", margin, "start", f.Title, 24)
	if f.Subtitle != "" {
		d.text("small", margin, "start", f.Subtitle, 20)
	}
	for i := range f.Panels {
		d.panel(&f.Panels[i])
	}
	d.y += 10
	for _, line := range f.Footer {
		d.text("small", margin, "start", line, 17)
	}
	height := int(d.y) + margin
	var b strings.Builder
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\" aria-label=\"%s\">\n",
		width, height, width, height, escape(f.Title))
	fmt.Fprintf(&b, "  <title>%s</title>\n  <style>%s  </style>\n", escape(f.Title), style)
	b.WriteString(d.body.String())
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// A drawing grows downwards.
type drawing struct {
	body strings.Builder
	y    float64
}

// text adds a line of text below what is there.
func (d *drawing) text(class string, x float64, anchor, text string, height float64) {
	d.y += height
	d.at(class, x, d.y, anchor, text)
}

func (d *drawing) at(class string, x, y float64, anchor, text string) {
	fmt.Fprintf(&d.body, "  <text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", class, x, y, anchor, escape(text))
}

func (d *drawing) panel(p *Panel) {
	d.y += 14
	d.text("panel", margin, "start", p.Title, 18)
	d.y += 8
	scale := p.scale()
	top := d.y
	for i := range p.Bars {
		d.bar(&p.Bars[i], scale)
	}
	fmt.Fprintf(&d.body, "  <line class=\"axis\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>\n", margin+labelRoom, top-2, margin+labelRoom, d.y-2)
}

// scale is pixels for one: as much as leaves room for every text beside its bar.
func (p *Panel) scale() float64 {
	scale := math.Inf(1)
	for i := range p.Bars {
		b := &p.Bars[i]
		if reach := b.reach(); reach > 0 {
			room := width - 2*margin - labelRoom - 8 - perRune*float64(utf8.RuneCountInString(b.Text))
			scale = min(scale, max(room, 1)/reach)
		}
	}
	if math.IsInf(scale, 1) {
		return 0
	}
	return scale
}

// reach is how far a bar and its whisker go.
func (b *Bar) reach() float64 {
	if !(b.Value >= 0) || math.IsInf(b.Value, 1) {
		return 0
	}
	if b.High > b.Low {
		return max(b.Value, b.High)
	}
	return b.Value
}

func (d *drawing) bar(b *Bar, scale float64) {
	const left = margin + labelRoom
	middle := d.y + barHeight/2
	d.at("label", left-8, middle+4.5, "end", b.Label)
	reach := b.reach() * scale
	if reach > 0 {
		fmt.Fprintf(&d.body, "  <rect class=\"%s\" x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>\n",
			b.Class, left, d.y, max(b.Value*scale, 1), barHeight)
		if b.High > b.Low {
			fmt.Fprintf(&d.body, "  <line class=\"whisker\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
				left+b.Low*scale, middle, left+b.High*scale, middle)
		}
	}
	d.at("value", left+reach+6, middle+4.5, "start", b.Text)
	d.y += rowHeight
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder has no errors
	return b.String()
}
