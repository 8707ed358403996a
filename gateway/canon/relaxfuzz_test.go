package canon

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// relaxedReadings are what a server might take a forwarded path for that has relaxed spellings: those of every path, each
// also after another decoding and with what goes on in it cut off.
func relaxedReadings() map[string]func(string) string {
	all := map[string]func(string) string{}
	for name, read := range readings {
		if name == "prefix cut in segment" {
			continue // resolves to another name, never further up: isDotted
		}
		all[name] = read
		all[name+", decoded before"] = func(p string) string { return read(decode(p)) }
		all[name+", cut before"] = func(p string) string { return read(cutParameters(p)) }
		all[name+", cut after"] = func(p string) string { return cutParameters(read(p)) }
		all[name+", decoded and cut after"] = func(p string) string { return cutParameters(decode(read(p))) }
	}
	all["cut at the first semicolon"] = func(p string) string { p, _, _ = strings.Cut(p, ";"); return p }
	return all
}

var wildReadings = relaxedReadings()

// breaksRelaxed says what is wrong with what a parser made of a target where everything below /all/ is relaxed, or "".
func breaksRelaxed(parse func(string) (parsed, bool), target string) string {
	p, ok := parse(target)
	if !ok {
		return ""
	}
	if _, strict := parseTarget(target); strict {
		return breaksPath(parseTarget, target)
	}
	switch again, ok := parse(p.escaped); {
	case !ok:
		return "what goes out would be refused coming in: " + p.escaped
	case again != p:
		return "what goes out is read as " + strconv.Quote(again.path) + " again"
	case strings.Count(p.escaped, "/") != strings.Count(target, "/") || strings.Count(p.escaped, ";") != strings.Count(target, ";"):
		return "a separator came or went: " + p.escaped
	}
	u, err := url.ParseRequestURI(p.escaped)
	if err != nil || u.Path != URLPath(p.path) {
		return "net/url reads " + strconv.Quote(p.escaped) + " differently"
	}
	for name, read := range wildReadings {
		if got := resolved(read(p.escaped)); got != "/root/all" && !strings.HasPrefix(got, "/root/all/") {
			return name + ": decided on " + strconv.Quote(p.path) + ", could be read as " + strconv.Quote(got)
		}
	}
	return ""
}

var allRelaxed = func() *Rules {
	relaxed := Relaxed{}
	relaxed.Add(host, "/", []Relaxation{{Paths: []Folder{"/all/"}, Allow: []Spelling{EncodedSlash, DoubleSlash, PathSemicolon, Percent}}})
	return NewRules(Limits{}, relaxed)
}()

func parseRelaxed(target string) (parsed, bool) {
	q := &Request{Host: host}
	if strings.Contains(target, "?") || q.readTarget(&http.Request{RequestURI: target}, allRelaxed) != nil {
		return parsed{}, false
	}
	return parsed{q.Path, q.EscapedPath}, true
}

// FuzzRelaxed: where spellings are relaxed, no reading of what is forwarded leaves the folder, and it reads back as what
// was decided on.
func FuzzRelaxed(f *testing.F) {
	f.Fuzz(func(t *testing.T, target string) {
		if wrong := breaksRelaxed(parseRelaxed, target); wrong != "" {
			t.Errorf("%q: %s", target, wrong)
		}
	})
}

// relaxedBy is the relaxation with another way to find the folder, or another judgement of one segment.
func relaxedBy(inFolder func(target string) bool, judge func(decoded string) bool) func(string) (parsed, bool) {
	allow := allowSlash | allowEmpty | allowParameter | allowPercent
	return func(target string) (parsed, bool) {
		if p, ok := parseTarget(target); ok {
			return p, true
		}
		if !inFolder(target) || strings.HasPrefix(target, "//") {
			return parsed{}, false
		}
		var pieces []string
		for segment := range strings.SplitSeq(target[1:], "/") {
			text, decoded, reason := allow.decode(segment)
			if segment != "" && (reason != "" || !judge(decoded)) {
				return parsed{}, false
			}
			pieces = append(pieces, text)
		}
		path := "/" + strings.Join(pieces, "/")
		return parsed{path, EscapePath(path)}, true
	}
}

// TestRelaxedCorpusFindsHastyRelaxations puts bugs in that a relaxation is easily written with: the committed corpus must
// show a way out of the folder, or two readings, with each.
func TestRelaxedCorpusFindsHastyRelaxations(t *testing.T) {
	seeds := corpus(t, "FuzzRelaxed")
	below := func(target string) bool { return strings.HasPrefix(target, "/all/") }
	every := allowSlash | allowEmpty | allowParameter | allowPercent
	whole := func(decoded string) bool { // as it is
		again := decodeAgain(decoded)
		return every.judge(decoded) == "" && every.judge(again) == "" && decodeAgain(again) == again
	}
	for name, hasty := range map[string]func(string) (parsed, bool){
		"nothing is judged":            relaxedBy(below, func(string) bool { return true }),
		"only whole segments":          relaxedBy(below, func(decoded string) bool { return decoded != "." && decoded != ".." }),
		"not cut at semicolons":        relaxedBy(below, func(d string) bool { return whole(strings.ReplaceAll(d, ";", "x")) }),
		"not split at encoded slashes": relaxedBy(below, func(d string) bool { return whole(strings.ReplaceAll(d, "/", "x")) }),
		"not decoded again":            relaxedBy(below, func(d string) bool { return every.judge(d) == "" }),
		"the folder by another name":   relaxedBy(func(target string) bool { return strings.HasPrefix(decode(target), "/all/") }, whole),
		"the folder anywhere":          relaxedBy(func(target string) bool { return strings.Contains(target, "/all/") }, whole),
		"backslashes are names": relaxedBy(below, func(d string) bool {
			return whole(strings.ReplaceAll(decodeAgain(d), `\`, "x"))
		}),
		"look-alikes are names": relaxedBy(below, func(d string) bool {
			return whole(strings.ToValidUTF8(wide.Replace(strings.NewReplacer("．", "x", "‥", "x", "／", "x").Replace(d)), ""))
		}),
		"the decoded path goes out": func(target string) (parsed, bool) {
			p, ok := parseRelaxed(target)
			return parsed{URLPath(p.path), EscapePath(URLPath(p.path))}, ok
		},
	} {
		if !slices.ContainsFunc(seeds, func(s string) bool { return breaksRelaxed(hasty, s) != "" }) {
			t.Errorf("no seed shows what is wrong when %s", name)
		}
	}
	if right := relaxedBy(below, whole); slices.ContainsFunc(seeds, func(s string) bool { return breaksRelaxed(right, s) != "" }) {
		t.Error("the judgement as it is fails too: the bugs above are not what the corpus finds")
	}
}
