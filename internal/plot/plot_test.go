package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
)

// elements reads a document and fails the test if it is not well-formed.
func elements(t *testing.T, svg []byte) []xml.StartElement {
	t.Helper()
	var all []xml.StartElement
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		if e, ok := token.(xml.StartElement); ok {
			all = append(all, e)
		}
	}
}

func attribute(t *testing.T, e xml.StartElement, name string) float64 {
	t.Helper()
	for _, a := range e.Attr {
		if a.Name.Local == name {
			v, err := strconv.ParseFloat(a.Value, 64)
			if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
				t.Fatalf("%s of %s is %q", name, e.Name.Local, a.Value)
			}
			return v
		}
	}
	t.Fatalf("%s has no %s", e.Name.Local, name)
	return 0
}

func TestBarsAreInProportion(t *testing.T) {
	f := Figure{Title: `"a" < b & c`, Subtitle: "s", Footer: []string{"f"}, Panels: []Panel{{Title: "p", Bars: []Bar{
		{Label: "one", Class: Ours, Value: 100, Low: 90, High: 120, Text: "100/s"},
		{Label: "two", Class: Rival, Value: 25, Text: strings.Repeat("long ", 10)},
		{Label: "none", Class: Limit, Value: math.NaN(), Text: "unsupported"},
		{Label: "never", Class: Limit, Value: math.Inf(1), Text: "∞"},
	}}, {Title: "empty"}}}
	var widths []float64
	for _, e := range elements(t, f.SVG()) {
		switch e.Name.Local {
		case "rect":
			w := attribute(t, e, "width")
			widths = append(widths, w)
			if right := attribute(t, e, "x") + w; right > width-margin {
				t.Errorf("a bar reaches to %v", right)
			}
		case "line":
			if right := attribute(t, e, "x2"); right > width-margin {
				t.Errorf("a line reaches to %v", right)
			}
		}
	}
	if len(widths) != 2 || math.Abs(widths[0]-4*widths[1]) > 0.5 {
		t.Errorf("bars of 100 and 25 are %v wide, want two, one 4 times the other", widths)
	}
}

func TestTextsAreEscaped(t *testing.T) {
	f := Figure{Title: `</svg><script>"&`}
	for _, e := range elements(t, f.SVG()) {
		if e.Name.Local == "script" {
			t.Error("a title became an element")
		}
	}
}
