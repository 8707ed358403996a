package matrix

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/policy"
)

// method is a value of the axis of methods.
type method struct {
	label  string
	verb   string
	action string
}

// Labels of values that stand for many.
const (
	anyOther  = "*"
	webSocket = "websocket" // a handshake: GET with an upgrade
)

var (
	commonMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
	otherMethods  = []string{"PROPFIND", "MKCOL", "REPORT", "LINK", "UNLINK", "REVIEW"}
	methodText    = regexp.MustCompile(`^[A-Z][A-Z-]{2,31}$`)
)

func (s *survey) methodsAxis() axis {
	verbs := slices.Clone(commonMethods)
	sockets, actions := false, false
	for _, p := range s.sides {
		for i := range p.rules {
			verbs = append(verbs, p.rules[i].Methods...)
		}
		if p.own == nil {
			continue
		}
		verbs = append(verbs, methodTexts(p.own)...)
		actions = actions || readsPlace(p.own, "action.name")
		sockets = sockets || readsPlace(p.own, "action.upgrade")
	}
	if actions {
		verbs = append(verbs, "TRACE")
	}
	seen := map[string]bool{}
	for _, verb := range verbs {
		if !seen[verb] {
			s.methods = append(s.methods, method{verb, verb, policy.ActionName(verb, "")})
		}
		seen[verb] = true
	}
	for _, verb := range otherMethods {
		if !seen[verb] {
			s.methods = append(s.methods, method{anyOther, verb, policy.ActionName(verb, "")})
			break
		}
	}
	if actions || sockets {
		s.methods = append(s.methods, method{webSocket, "GET", policy.ActionConnect})
	}
	a := axis{name: "method"}
	for _, m := range s.methods {
		a.values = append(a.values, value{label: m.label, set: func(in *policy.Input, _ *time.Location) {
			in.Action.Method, in.Action.Name = m.verb, m.action
			if m.label == webSocket {
				in.Action.Upgrade = "websocket"
			}
		}})
	}
	return a
}

// pattern is a class of paths: those that match the glob, in which a star is any text, and no pattern before it.
type pattern struct {
	glob    string
	example string
}

func (s *survey) pathsAxis() axis {
	globs := map[string]origin{"/": {}, "/*": {}}
	add := func(glob string, from origin) {
		if _, known := globs[glob]; !known {
			globs[glob] = from
		}
	}
	class := ofPackages
	for _, p := range s.sides {
		for i := range p.rules {
			for _, e := range p.rules[i].Exact {
				add(e, origin{class: ofRules})
			}
			for _, b := range p.rules[i].Below {
				add(b, origin{class: ofRules})
				add(b+"*", origin{class: ofRules})
			}
		}
		if p.own != nil && (readsPlace(p.own, "resource.path") || readsPlace(p.own, "resource.segments")) {
			for _, one := range p.own.Apart("resource.path", "resource.segments") {
				of := origin{class, len(one.Strings) < 2, len(one.At("subject").Strings) > 0}
				for _, g := range ownGlobs(one) {
					add(g, of)
				}
				class++
			}
		}
	}
	for _, g := range s.relatedGlobs() {
		add(g, origin{class: ofPeople, alone: true})
	}
	if left := combine(globs); left {
		s.incomplete = append(s.incomplete, fmt.Sprintf("app %s: its packages look into paths in more than %d ways; not all of their combinations were tried", s.app.Name, mostGlobs))
	}
	s.paths = classes(slices.Collect(maps.Keys(globs)))
	s.addSamples()
	words := fillers(s.paths)
	a := axis{name: "path"}
	for i := range s.paths {
		p := &s.paths[i]
		v := value{label: p.glob, set: func(in *policy.Input, _ *time.Location) { setPath(in, p.example) }}
		if strings.Contains(p.glob, "*") {
			v.vary = func(in *policy.Input, _ *time.Location, n uint64) {
				word := words[n%uint64(len(words))] + strconv.FormatUint(n%100_000, 36)
				if n%3 == 0 {
					word = words[n%uint64(len(words))]
				}
				if path := fill(p.glob, word); classOf(s.paths, path) == i {
					setPath(in, path)
				}
			}
		}
		a.values = append(a.values, v)
	}
	return a
}

// fillers are texts that a star may stand for and that could matter: the fixed parts of all patterns, or anything.
func fillers(list []pattern) []string {
	words := []string{"v", "x/y", ""}
	for _, p := range list {
		for part := range strings.SplitSeq(p.glob, "*") {
			if part = strings.TrimPrefix(part, "/"); part != "" {
				words = append(words, part, "v"+part)
			}
		}
	}
	return words
}

func setPath(in *policy.Input, path string) {
	in.Resource.Path, in.Resource.Segments = path, nil
	if trimmed := strings.Trim(path, "/"); trimmed != "" {
		in.Resource.Segments = strings.Split(trimmed, "/")
	}
}

// classes orders globs so that the first that matches a path is the narrowest, and finds an example of each that is not
// one of an earlier one. A glob without any is left out.
func classes(globs []string) []pattern {
	slices.SortFunc(globs, func(a, b string) int {
		stars, others := strings.Count(a, "*"), strings.Count(b, "*")
		return cmp.Or(cmp.Compare(min(stars, 1), min(others, 1)), cmp.Compare(len(b)-others, len(a)-stars), cmp.Compare(stars, others), cmp.Compare(a, b))
	})
	var list []pattern
	for _, g := range globs {
		for _, word := range []string{"x", "x1", "zz9", "q-7", "0", "sample"} {
			example := fill(g, word)
			if !strings.Contains(g, "*") || !matchesAny(list, example) {
				list = append(list, pattern{g, example})
				break
			}
		}
	}
	return list
}

func matchesAny(list []pattern, path string) bool { return classOf(list, path) >= 0 }

// classOf is the place of the first pattern that matches, or -1.
func classOf(list []pattern, path string) int {
	return slices.IndexFunc(list, func(p pattern) bool { return Matches(p.glob, path) })
}

func fill(glob, word string) string { return strings.ReplaceAll(glob, "*", word) }

// Matches reports whether a path matches a pattern of an App's Paths: a star is any text, even none.
func Matches(glob, path string) bool {
	parts := strings.Split(glob, "*")
	if len(parts) == 1 {
		return glob == path
	}
	rest, ok := strings.CutPrefix(path, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(rest, part)
		if at < 0 {
			return false
		}
		rest = rest[at+len(part):]
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}
