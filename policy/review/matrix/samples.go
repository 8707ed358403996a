package matrix

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"sallyport/policy"
)

// Classes of paths are patterns, and packages can tell paths apart in ways that no pattern says: by a regular expression,
// in any case, as numbers, by their length. For these, single paths are tried on both sides of each constant. A difference
// that a sample shows and the class around it does not is a finding on that one path, and the result is incomplete.

// sample is a path that is tried for its own sake.
type sample struct {
	path   string
	why    string // the function that may tell it from others of its class, and where it is called
	place  int    // among the survey's paths
	around int    // the class it would belong to
}

// mostSamples bounds the samples of one app.
const mostSamples = 400

// alike is how many samples are tried of those that the same expressions match.
const alike = 3

// sampler makes samples for what one package holds together against paths.
type sampler struct {
	own    *policy.Constants
	begins []string
	list   []sample
}

// addSamples puts the samples before the classes of paths.
func (s *survey) addSamples() {
	var all []sample
	for _, p := range s.sides {
		if p.own == nil {
			continue
		}
		begins := beginnings(p.own.At("resource.path", "resource.segments"))
		for _, one := range p.own.Apart("resource.path", "resource.segments") {
			r := &sampler{own: one, begins: begins}
			r.make()
			all = append(all, r.list...)
		}
	}
	all = s.chosen(all)
	if len(all) > mostSamples {
		s.incomplete = append(s.incomplete, fmt.Sprintf("app %s: its packages look into paths by %s; %d of %d paths that this may tell apart were tried", s.app.Name, all[mostSamples].why, mostSamples, len(all)))
		all = all[:mostSamples]
	}
	patterns := make([]pattern, len(all))
	for i := range all {
		patterns[i] = pattern{all[i].path, all[i].path}
		all[i].place = i
		all[i].around += len(all)
	}
	s.samples, s.paths = all, slices.Concat(patterns, s.paths)
}

// chosen are samples that are no class of their own yet, a few of those which the same expressions match.
func (s *survey) chosen(all []sample) []sample {
	var expressions []*regexp.Regexp
	for _, p := range s.sides {
		if p.own != nil {
			for _, text := range expressionsOf(p.own.At("resource.path", "resource.segments")) {
				if re, err := regexp.Compile(text); err == nil {
					expressions = append(expressions, re)
				}
			}
		}
	}
	seen, count := map[string]bool{}, map[string]int{}
	var list []sample
	for _, one := range all {
		if seen[one.path] || strings.Contains(one.path, "*") || len(one.path) > 4096 {
			continue
		}
		seen[one.path] = true
		one.around = classOf(s.paths, one.path)
		if one.around < 0 || s.paths[one.around].glob == one.path {
			continue
		}
		if matching := matchedBy(expressions, one.path); strings.HasPrefix(one.why, "regex.") || strings.HasPrefix(one.why, "glob.") {
			key := strconv.Itoa(one.around) + matching
			if count[key]++; count[key] > alike {
				continue
			}
		}
		list = append(list, one)
	}
	return list
}

// matchedBy tells which expressions match a path or one of its segments.
func matchedBy(expressions []*regexp.Regexp, path string) string {
	var key strings.Builder
	for _, text := range append([]string{path, strings.TrimPrefix(path, "/")}, strings.Split(strings.Trim(path, "/"), "/")...) {
		for _, re := range expressions {
			key.WriteString(strconv.FormatBool(re.MatchString(text)))
		}
		key.WriteByte('/')
	}
	return key.String()
}

// site is the first place where one of some functions is given something of the path; "" if none is.
func site(c *policy.Constants, names ...string) string {
	for _, at := range c.Sites {
		if at.Path && slices.Contains(names, at.Call) && (c.All || slices.Contains(c.Calls, at.Call)) {
			return at.Call + " (" + at.Where + ")"
		}
	}
	return ""
}

// Functions that tell paths apart in ways that patterns do not say.
var (
	regexCalls   = []string{"regex.match", "regex.is_valid", "regex.find_n", "regex.split", "regex.replace", "regex.find_all_string_submatch_n"}
	caseCalls    = []string{"lower", "upper"}
	orderCalls   = []string{"lt", "lte", "gt", "gte"}
	unknownCalls = []string{"mul", "div", "rem", "plus", "bits.and", "bits.or", "bits.xor", "strings.reverse", "regex.template_match",
		"regex.globs_match", "glob.quote_meta", "urlquery.decode", "base64.decode", "base64url.decode", "hex.decode", "json.unmarshal",
		"crypto.sha256", "crypto.md5", "crypto.sha1", "format_int", "units.parse", "units.parse_bytes", "uuid.parse", "semver.compare", "semver.is_valid",
		"time.parse_ns", "time.parse_rfc3339_ns", "sort", "net.cidr_contains", "numbers.range"}
)

// make makes the samples of a package.
func (r *sampler) make() {
	for _, text := range pathTexts(r.own) {
		if strings.Contains(text, " ") && !decisionWords[text] && len(text) <= 256 {
			r.segments("a text with spaces", text)
		}
	}
	if why := site(r.own, regexCalls...); why != "" {
		r.expressions(why, pathTexts(r.own))
	}
	if why := site(r.own, "glob.match"); why != "" {
		for _, text := range pathTexts(r.own) {
			if isGlob(text) {
				r.expressions(why, []string{globExpression(text)})
			}
		}
	}
	if why := site(r.own, caseCalls...); why != "" {
		for _, text := range pathTexts(r.own) {
			r.cases(why, text)
		}
	}
	if why := site(r.own, "to_number"); why != "" {
		r.numbers(why)
	}
	if why := site(r.own, "count"); why != "" {
		r.lengths(why)
	}
	if why := site(r.own, orderCalls...); why != "" {
		for _, text := range pathTexts(r.own) {
			r.neighbours(why, text)
		}
	}
}

func (r *sampler) add(why string, paths ...string) {
	for _, path := range paths {
		if strings.HasPrefix(path, "/") {
			r.list = append(r.list, sample{path: path, why: why})
		}
	}
}

// segments adds paths that have a text for a path, or for one of their segments.
func (r *sampler) segments(why, text string) {
	if strings.HasPrefix(text, "/") {
		r.add(why, text, text+"/v", text+"v")
		return
	}
	r.add(why, "/"+text, "/"+text+"/v", "/v/"+text, "/v/"+text+"/v", "/v/v/"+text)
	for _, begin := range r.begins[1:] {
		r.add(why, begin+text, begin+text+"/v")
	}
}

// cases adds a text in small letters, in capitals, and in both.
func (r *sampler) cases(why, text string) {
	if text == "" || len(text) > 64 || strings.Contains(text, " ") || decisionWords[text] {
		return
	}
	for _, other := range casesOf(text) {
		r.segments(why, other)
		if !strings.HasPrefix(other, "/") {
			r.add(why, "/v"+other, "/v"+other+"v")
		}
	}
}

// casesOf are other ways to write a text, unless it has no letters.
func casesOf(text string) []string {
	small, large := strings.ToLower(text), strings.ToUpper(text)
	if small == large {
		return nil
	}
	var mixed strings.Builder
	capital := false
	for _, c := range small {
		if one := string(c); strings.ToUpper(one) != one {
			if capital = !capital; !capital {
				mixed.WriteString(strings.ToUpper(one))
				continue
			}
		}
		mixed.WriteRune(c)
	}
	return []string{small, large, mixed.String()}
}

// numbers adds the numbers on both sides of each of the package's as segments.
func (r *sampler) numbers(why string) {
	for _, n := range r.own.Numbers {
		if n < -1e15 || n > 1e15 {
			continue
		}
		for _, near := range []int64{n - 1, n, n + 1} {
			text := strconv.FormatInt(near, 10)
			r.segments(why, text)
			r.segments(why, text+".5")
			for _, depth := range depths(r.own) {
				r.add(why, strings.Repeat("/v", depth)+"/"+text)
			}
		}
	}
	r.segments(why, "0x1")
}

// depths are the places of the segments that a package reads by number.
func depths(c *policy.Constants) (list []int) {
	for _, read := range c.Reads {
		if text, ok := strings.CutPrefix(read, "resource.segments."); ok {
			if n, err := strconv.Atoi(text); err == nil && n > 2 && n < 64 {
				list = append(list, n)
			}
		}
	}
	return list
}

// lengths adds paths of about as many characters and segments as each of the package's numbers.
func (r *sampler) lengths(why string) {
	for _, n := range r.own.Numbers {
		for near := max(1, n-1); n >= 0 && near <= min(n+1, 2000); near++ {
			for _, begin := range r.begins {
				if fill := int(near) - len(begin); fill >= 0 {
					r.add(why, begin+strings.Repeat("v", fill))
				}
				if more := int(near) - strings.Count(begin, "/") + 1; more > 0 && near <= 64 {
					r.add(why, begin+strings.TrimPrefix(strings.Repeat("/v", more), "/"))
				}
			}
		}
	}
}

// neighbours adds what sorts just before and after a text.
func (r *sampler) neighbours(why, text string) {
	if text == "" || len(text) > 64 || strings.Contains(text, " ") || decisionWords[text] {
		return
	}
	last := text[len(text)-1]
	for _, near := range []string{text, text + "!", text[:len(text)-1] + string(rune(last-1)) + "~", text[:len(text)-1] + string(rune(last+1))} {
		r.segments(why, near)
	}
}

// expressions adds texts that regular expressions match, and some that they nearly do.
func (r *sampler) expressions(why string, texts []string) {
	for _, text := range texts {
		if !strings.ContainsAny(text, `\^$.|?*+()[]{}`) {
			continue
		}
		for _, t := range textsAbout(text) {
			r.add(why, t)
			if !strings.HasPrefix(t, "/") {
				r.segments(why, t)
			}
			if !strings.HasPrefix(text, "^") {
				r.add(why, "/v"+t)
			}
		}
	}
}

// expressionsOf are a package's regular expressions, its globs among them.
func expressionsOf(c *policy.Constants) (list []string) {
	for _, text := range pathTexts(c) {
		if strings.ContainsAny(text, `\^$.|?*+()[]{}`) {
			list = append(list, text)
		}
		if isGlob(text) {
			list = append(list, globExpression(text))
		}
	}
	return list
}

// mostAbout bounds the texts about one expression.
const mostAbout = 200

// textsAbout are texts that a regular expression matches or nearly matches.
func textsAbout(expr string) []string {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil
	}
	base, others := about(re)
	others = append([]string{base, base + "x", base + "/x", "x" + base, "/x" + base}, others...)
	return others[:min(len(others), mostAbout)]
}

// about is a text that an expression matches, and others in which one thing is different, so that it may match no more.
func about(re *syntax.Regexp) (base string, others []string) {
	switch re.Op {
	case syntax.OpLiteral:
		return aboutLiteral(re)
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return "x", []string{"", "xy", "/", ".", "x/y"}
	case syntax.OpCharClass:
		return aboutClass(re)
	case syntax.OpCapture:
		return about(re.Sub[0])
	case syntax.OpStar:
		return aboutRepeat(re.Sub[0], 0, -1)
	case syntax.OpPlus:
		return aboutRepeat(re.Sub[0], 1, -1)
	case syntax.OpQuest:
		return aboutRepeat(re.Sub[0], 0, 1)
	case syntax.OpRepeat:
		return aboutRepeat(re.Sub[0], re.Min, re.Max)
	case syntax.OpAlternate:
		for i, sub := range re.Sub {
			text, more := about(sub)
			if i == 0 {
				base = text
			}
			others = append(append(others, text), more...)
		}
		return base, others
	case syntax.OpConcat:
		return aboutConcat(re.Sub)
	}
	return "", nil
}

func aboutLiteral(re *syntax.Regexp) (string, []string) {
	text := string(re.Rune)
	var others []string
	if re.Flags&syntax.FoldCase != 0 {
		others = casesOf(text)
	}
	for i := range text {
		if strings.ContainsRune("._-/ ", rune(text[i])) {
			others = append(others, text[:i]+"x"+text[i+1:])
		}
	}
	return text, others
}

// characters are tried where a class of characters stands.
const characters = "xamzAMZ0159-_.~ /é%+@"

func aboutClass(re *syntax.Regexp) (base string, others []string) {
	runes := []rune(characters)
	for i, r := range re.Rune {
		if i < 16 {
			runes = append(runes, r-1, r, r+1)
		}
	}
	for _, r := range runes {
		if r < ' ' || r > 0xff || r == 0x7f {
			continue
		}
		if base == "" && slices.ContainsFunc(spans(re.Rune), func(s [2]rune) bool { return s[0] <= r && r <= s[1] }) {
			base = string(r)
		}
		others = append(others, string(r))
	}
	return base, others
}

func spans(runes []rune) (list [][2]rune) {
	for i := 0; i+1 < len(runes); i += 2 {
		list = append(list, [2]rune{runes[i], runes[i+1]})
	}
	return list
}

// aboutRepeat repeats what an expression matches as often as it may be, and once more or less.
func aboutRepeat(re *syntax.Regexp, least, most int) (base string, others []string) {
	one, more := about(re)
	times := max(least, 1)
	base = strings.Repeat(one, times)
	for _, n := range []int{least - 1, least, least + 1, most, most + 1} {
		if n >= 0 && n <= 100 {
			others = append(others, strings.Repeat(one, n))
		}
	}
	for _, other := range more {
		others = append(others, other+strings.Repeat(one, times-1))
		if times > 1 {
			others = append(others, strings.Repeat(other, times))
		}
	}
	return base, others
}

func aboutConcat(parts []*syntax.Regexp) (base string, others []string) {
	bases, variants := make([]string, len(parts)), make([][]string, len(parts))
	for i, part := range parts {
		bases[i], variants[i] = about(part)
	}
	for i := range parts {
		begin, end := strings.Join(bases[:i], ""), strings.Join(bases[i+1:], "")
		for _, variant := range variants[i] {
			others = append(others, begin+variant+end)
		}
	}
	return strings.Join(bases, ""), others
}

func isGlob(text string) bool { return strings.ContainsAny(text, "*?[{") }

// globExpression is the regular expression of a glob whose stars stop at slashes and dots. With other delimiters, or
// none, its near misses are what counts.
func globExpression(glob string) string {
	var b strings.Builder
	b.WriteByte('^')
	depth, class := 0, false
	for i := 0; i < len(glob); i++ {
		switch c := glob[i]; {
		case class && c != ']':
			if c == '!' && glob[i-1] == '[' {
				c = '^'
			}
			b.WriteByte(c)
		case c == ']':
			class = false
			b.WriteByte(c)
		case c == '[':
			class = true
			b.WriteByte(c)
		case c == '*' && strings.HasPrefix(glob[i:], "**"):
			b.WriteString(".*")
			i++
		case c == '*':
			b.WriteString("[^/.]*")
		case c == '?':
			b.WriteString("[^/.]")
		case c == '{':
			depth++
			b.WriteByte('(')
		case c == '}' && depth > 0:
			depth--
			b.WriteByte(')')
		case c == ',' && depth > 0:
			b.WriteByte('|')
		case c == '\\' && i+1 < len(glob):
			i++
			b.WriteString(regexp.QuoteMeta(glob[i : i+1]))
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	b.WriteByte('$')
	return b.String()
}

// unknownSites says which functions are given something of the path that no samples are made for.
func unknownSites(c *policy.Constants) (list []string) {
	for _, at := range c.Sites {
		if at.Path && slices.Contains(unknownCalls, at.Call) {
			list = append(list, at.Call+" ("+at.Where+")")
		}
	}
	return list
}

// tellSamples says of findings that hold for a sample and not for the class around it, or the other way round, that the
// paths they name are not all.
func (s *survey) tellSamples() {
	said := map[string]bool{}
	for _, key := range s.order {
		for _, b := range s.outcomes[key].boxes {
			for i := range s.samples {
				if one := &s.samples[i]; !said[one.why] && s.stands(b, one) {
					said[one.why] = true
					s.incomplete = append(s.incomplete, fmt.Sprintf("app %s: its package tells paths apart by %s; single paths such as %q were tried, and others like them may differ too", s.app.Name, one.why, one.path))
				}
			}
		}
	}
	s.tellMethods()
}

// stands reports whether a box holds for a sample or the class around it, and not for the other.
func (s *survey) stands(b box, one *sample) bool {
	if b[pathAxis].has(one.place) == b[pathAxis].has(one.around) {
		return false
	}
	at := make(point, len(b))
	for i := range b {
		at[i] = b[i].members()[0]
	}
	at[pathAxis] = one.place
	here := s.found(at)
	at[pathAxis] = one.around
	return here != s.found(at)
}

// equalities are functions on methods that a list of methods says all about.
var equalities = []string{"eq", "equal", "neq", "assign", "internal.member_2", "internal.member_3", "object.get"}

// methodSite is the first function that looks into the method; "" if none does.
func methodSite(c *policy.Constants) string {
	for _, at := range c.Sites {
		if at.Method && !slices.Contains(equalities, at.Call) {
			return at.Call + " (" + at.Where + ")"
		}
	}
	return ""
}

// methodName is what a method may look like.
var methodName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{1,31}$`)

// methodTexts are the methods that a package may name, or, where it looks into them, name in part.
func methodTexts(c *policy.Constants) []string {
	if !readsPlace(c, "action.method") {
		return nil
	}
	looks := methodSite(c) != ""
	var list []string
	for _, text := range c.At("action.method").Strings {
		if methodText.MatchString(text) {
			list = append(list, text)
		}
		if !looks {
			continue
		}
		list = append(append(list, text, text+"X", "X"+text), casesOf(text)...)
		if strings.ContainsAny(text, `\^$.|?*+()[]{}`) {
			about := textsAbout(text)
			list = append(list, about[:min(len(about), 40)]...)
		}
	}
	return slices.DeleteFunc(list, func(text string) bool { return !methodName.MatchString(text) || decisionWords[text] })
}

// tellMethods says of findings that hold for some methods that there may be others where a package looks into methods.
func (s *survey) tellMethods() {
	for _, p := range s.sides {
		if p.own == nil || methodSite(p.own) == "" {
			continue
		}
		for _, key := range s.order {
			for _, b := range s.outcomes[key].boxes {
				if b[methodAxis].count() < len(s.methods) {
					s.incomplete = append(s.incomplete, fmt.Sprintf("app %s: its package tells methods apart by %s; some were tried, and others may differ too", s.app.Name, methodSite(p.own)))
					return
				}
			}
		}
	}
}

// personTexts are the texts of a package that people may be made up for: as they are written and, where it looks into
// them, in other cases and as regular expressions match them.
func personTexts(c *policy.Constants) []string {
	c = c.At("subject.email", "subject.groups")
	list := slices.Clone(c.Strings)
	for _, text := range c.Strings {
		if slices.Contains(c.Calls, "lower") || slices.Contains(c.Calls, "upper") {
			list = append(list, casesOf(text)...)
		}
		if strings.ContainsAny(text, `\^$|?*+()[]{}`) && slices.ContainsFunc(c.Calls, func(call string) bool { return strings.HasPrefix(call, "regex.") || call == "glob.match" }) {
			expr := text
			if isGlob(text) && slices.Contains(c.Calls, "glob.match") {
				expr = globExpression(text)
			}
			about := textsAbout(expr)
			list = append(list, about[:min(len(about), 20)]...)
		}
	}
	return list
}
