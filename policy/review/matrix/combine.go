package matrix

import (
	"maps"
	"slices"
	"strings"
)

// origin is where a glob comes from.
type origin struct {
	class  int  // of the constants that are compared together
	alone  bool // there is one text in the class: nothing to combine within it
	person bool // it may be held against words of people
}

// Classes that are no package's.
const (
	ofRules = iota
	ofPeople
	ofPackages // and more
)

// meets reports whether a path may have to match globs of both origins.
func (o origin) meets(other origin) bool {
	if o.class == other.class {
		return !o.alone
	}
	// What is held against people's words stands before or behind them, and those globs are made already.
	return !(o.class == ofPeople && other.person || other.class == ofPeople && o.person)
}

// mostGlobs bounds the classes of paths of one app.
const mostGlobs = 2_000

// combine adds what paths look like that belong to two classes neither of which lies in the other: below a folder and with
// an end. It reports whether some are left out.
func combine(globs map[string]origin) (left bool) {
	type part struct {
		text string
		of   origin
	}
	var begins, wild []part
	for _, g := range slices.Sorted(maps.Keys(globs)) {
		if begin, open := strings.CutSuffix(g, "*"); open && begin != "/" {
			begins = append(begins, part{begin, globs[g]})
		}
		if strings.HasPrefix(g, "/*") && g != "/*" {
			wild = append(wild, part{g[len("/*"):], globs[g]})
		}
	}
	for _, first := range wild {
		if !strings.HasSuffix(first.text, "*") || strings.HasPrefix(first.text, "/") {
			continue
		}
		for _, second := range wild[:len(wild):len(wild)] {
			if first.text != second.text && !strings.HasPrefix(second.text, "/") && len(wild) < mostGlobs && first.of.meets(second.of) {
				wild = append(wild, part{first.text + second.text, second.of})
				globs["/*"+first.text+second.text] = second.of
			}
		}
	}
	for _, begin := range begins {
		for _, end := range wild {
			if !begin.of.meets(end.of) {
				continue
			}
			if len(globs) >= mostGlobs {
				return true
			}
			globs[begin.text+"*"+end.text] = end.of
			if strings.HasSuffix(begin.text, "/") && strings.HasPrefix(end.text, "/") {
				globs[begin.text+end.text[1:]] = end.of
			}
		}
	}
	return false
}
