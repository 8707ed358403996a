package matrix

import (
	"fmt"
	"maps"
	"regexp/syntax"
	"slices"
	"strings"

	"sallyport/policy"
)

// ownGlobs are the classes of paths that a package of the operator's may tell apart: its texts as whole paths, as their
// beginnings, and, where it calls functions that look inside, as segments, ends and middles.
func ownGlobs(c *policy.Constants) []string {
	calls := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(c.Calls, n) })
	}
	reworks := calls("replace", "split", "substring", "concat", "sprintf", "lower", "upper", "trim", "strings.reverse", "strings.replace_n")
	ends := reworks || calls("endswith", "strings.any_suffix_match", "trim_suffix")
	middles := reworks || calls("contains", "indexof", "indexof_n", "strings.count")
	regex := calls("regex.match", "regex.find_n", "regex.split", "regex.replace", "regex.find_all_string_submatch_n")
	first := readsPlace(c, "resource.segments.0")
	others := c.All || slices.ContainsFunc(c.Reads, func(r string) bool {
		return strings.HasPrefix(r, "resource.segments") && r != "resource.segments.0" || r == "resource"
	})
	var globs []string
	for _, text := range pathTexts(c) {
		if text == "" || len(text) > 256 || strings.Count(text, " ") > 1 || decisionWords[text] {
			continue
		}
		if regex && strings.ContainsAny(text, `\^$.|?*+()[]{}`) {
			globs = append(globs, regexGlobs(text)...)
		}
		if isGlob(text) && calls("glob.match") {
			globs = append(globs, regexGlobs(globExpression(text))...)
		}
		if strings.Contains(text, "*") {
			continue
		}
		if strings.HasPrefix(text, "/") {
			folder := strings.TrimSuffix(text, "/")
			globs = append(globs, text, text+"*", folder+"/", folder+"/*")
			if folder != "" {
				globs = append(globs, folder)
			}
		}
		word := strings.Trim(text, "/")
		if first && word != "" {
			globs = append(globs, "/"+word, "/"+word+"/*")
		}
		if others && word != "" {
			globs = append(globs, "/*/"+word, "/*/"+word+"/*")
		}
		if ends {
			globs = append(globs, "/*"+text)
		}
		if middles {
			globs = append(globs, "/*"+text+"*", "/"+strings.TrimPrefix(text, "/")+"*")
		}
	}
	if others {
		globs = append(globs, "/*/*", "/*/*/*")
	}
	for i := range globs {
		for strings.Contains(globs[i], "**") {
			globs[i] = strings.ReplaceAll(globs[i], "**", "*")
		}
	}
	return slices.DeleteFunc(globs, func(g string) bool { return !strings.HasPrefix(g, "/") })
}

// pathTexts are the texts that a package may hold against paths.
func pathTexts(c *policy.Constants) []string {
	if !readsPlace(c, "resource.path") && !readsPlace(c, "resource.segments") {
		return nil
	}
	return c.At("resource.path", "resource.segments").Strings
}

// mostRelated bounds the paths that are made of people's own words.
const mostRelated = 600

// relatedGlobs are paths that name people, for packages that hold the path against who asks.
func (s *survey) relatedGlobs() []string {
	globs := map[string]bool{}
	for _, p := range s.sides {
		if p.own == nil || !p.own.Relates {
			continue
		}
		begins := beginnings(p.own.At("resource.path", "resource.segments"))
		for i := range s.people {
			for _, word := range wordsOf(&s.people[i].subject, p.own) {
				for _, begin := range begins {
					globs[begin+word], globs[begin+word+"/*"] = true, true
				}
			}
		}
	}
	list := slices.Sorted(maps.Keys(globs))
	if len(list) > mostRelated {
		s.incomplete = append(s.incomplete, fmt.Sprintf("app %s: its package holds paths against who asks; %d of %d paths that name people were tried", s.app.Name, mostRelated, len(list)))
		list = list[:mostRelated]
	}
	return list
}

// beginnings are what may precede a person's word in a path.
func beginnings(c *policy.Constants) []string {
	begins := []string{"/"}
	for _, text := range pathTexts(c) {
		text, _, _ = strings.Cut(text, "%")
		text = strings.Trim(text, "/")
		if plausibleWord(strings.ReplaceAll(text, "/", "")) && !decisionWords[text] {
			begins = append(begins, "/"+text+"/")
		}
	}
	return begins
}

// decisionWords stand in every package that decides, and are hardly part of a path.
var decisionWords = map[string]bool{"allow": true, "reasons": true, "decision": true, "obligations": true, "sallyport": true}

// wordsOf are texts of a person that a path may hold.
func wordsOf(p *policy.Subject, c *policy.Constants) []string {
	var words []string
	if readsPlace(c, "subject.email") && p.Email != "" {
		local, _, _ := strings.Cut(p.Email, "@")
		words = append(words, p.Email, strings.ToLower(p.Email), local)
	}
	if readsPlace(c, "subject.id") && p.ID != "" {
		_, sub, _ := strings.Cut(p.ID, "|")
		words = append(words, p.ID, sub)
	}
	if readsPlace(c, "subject.groups") {
		words = append(words, p.Groups...)
	}
	if readsPlace(c, "subject.claims") {
		for _, claim := range p.Claims {
			if text, ok := claim.(string); ok {
				words = append(words, strings.Trim(text, "/"))
			}
		}
	}
	return slices.DeleteFunc(words, func(w string) bool { return w == "" || strings.ContainsAny(w, "*") })
}

// regexGlobs are globs for the texts that a regular expression matches, as far as a glob can say it, and else a text that
// it matches.
func regexGlobs(expr string) []string {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil
	}
	texts := expand(re.Simplify())
	for i, t := range texts {
		if t, begins := strings.CutPrefix(t, "\x02"); begins {
			texts[i] = t
		} else if !strings.HasPrefix(t, "/") {
			texts[i] = "/*" + t
		} else {
			texts = append(texts, "/*"+t)
		}
		if t, ends := strings.CutSuffix(texts[i], "\x03"); ends {
			texts[i] = t
		} else {
			texts[i] += "*"
		}
	}
	for i := range texts {
		texts[i] = strings.NewReplacer("\x02", "", "\x03", "").Replace(texts[i])
		if !strings.HasPrefix(texts[i], "/") {
			texts[i] = "/" + texts[i] // of a segment
			texts = append(texts, "/*"+texts[i])
		}
	}
	for _, t := range texts {
		for strings.Contains(t, "**") {
			t = strings.ReplaceAll(t, "**", "*")
		}
		if n := strings.Count(t, "*"); n > 0 && n <= 3 { // a star may stop at a slash, and be something
			texts = append(texts, strings.ReplaceAll(t, "*", "*/*"), strings.ReplaceAll(t, "*", ""))
		}
	}
	return texts
}

// mostTexts bounds what alternatives multiply to.
const mostTexts = 64

// expand are globs for an expression; \x02 and \x03 are its anchors.
func expand(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpLiteral:
		if cases := casesOf(string(re.Rune)); re.Flags&syntax.FoldCase != 0 && len(cases) > 0 {
			return cases[:2] // as they are usually written
		}
		return []string{string(re.Rune)}
	case syntax.OpBeginText, syntax.OpBeginLine:
		return []string{"\x02"}
	case syntax.OpEndText, syntax.OpEndLine:
		return []string{"\x03"}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return []string{"*"}
	case syntax.OpCharClass:
		return classTexts(re)
	case syntax.OpCapture:
		return expand(re.Sub[0])
	case syntax.OpStar, syntax.OpPlus:
		if inner := expand(re.Sub[0]); len(inner) == 1 && inner[0] != "*" {
			return inner
		}
		return []string{"*"}
	case syntax.OpQuest:
		return append([]string{""}, expand(re.Sub[0])...)
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			all = append(all, expand(sub)...)
		}
		return all[:min(len(all), mostTexts)]
	case syntax.OpConcat:
		all := []string{""}
		for _, sub := range re.Sub {
			var longer []string
			for _, begin := range all {
				for _, end := range expand(sub) {
					longer = append(longer, begin+end)
				}
			}
			all = longer[:min(len(longer), mostTexts)]
		}
		return all
	}
	return []string{""}
}

// classTexts are the characters of a class of few, and else a star.
func classTexts(re *syntax.Regexp) (texts []string) {
	for _, span := range spans(re.Rune) {
		if span[1]-span[0] > 2 || len(texts) > 4 {
			return []string{"*"}
		}
		for r := span[0]; r <= span[1]; r++ {
			texts = append(texts, string(r))
		}
	}
	return texts
}
