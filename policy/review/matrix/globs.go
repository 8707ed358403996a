package matrix

import (
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
	inside := calls("contains", "endswith", "strings.any_suffix_match", "indexof", "indexof_n", "replace", "trim_suffix", "trim_prefix", "trim",
		"split", "substring", "strings.count", "strings.reverse", "concat", "sprintf", "lower", "upper")
	regex := calls("regex.match", "regex.find_n", "regex.split", "regex.replace", "regex.find_all_string_submatch_n")
	segments := c.All || slices.ContainsFunc(c.Reads, func(r string) bool { return strings.HasPrefix(r, "resource.segments") })
	var globs, begins, ends []string
	for _, text := range c.Strings {
		if text == "" || len(text) > 256 || strings.Contains(text, " ") {
			continue
		}
		if regex && strings.ContainsAny(text, `\^$.|?*+()[]{}`) {
			globs = append(globs, regexGlobs(text)...)
		}
		if strings.Contains(text, "*") {
			if calls("glob.match") && strings.HasPrefix(text, "/") {
				one := strings.ReplaceAll(text, "**", "*")
				globs = append(globs, one, strings.ReplaceAll(one, "*", "*/*"))
			}
			continue
		}
		if strings.HasPrefix(text, "/") {
			folder := strings.TrimSuffix(text, "/")
			globs = append(globs, text, text+"*", folder+"/", folder+"/*")
			if folder != "" {
				globs = append(globs, folder)
			}
			begins = append(begins, text)
		}
		word := strings.Trim(text, "/")
		if segments && word != "" {
			globs = append(globs, "/"+word, "/"+word+"/*", "/*/"+word, "/*/"+word+"/*")
		}
		if inside {
			ends = append(ends, text)
			globs = append(globs, "/*"+text+"*", "/"+strings.TrimPrefix(text, "/")+"*")
		}
	}
	if segments {
		globs = append(globs, "/*/*", "/*/*/*", "/*/")
	}
	for _, end := range ends {
		globs = append(globs, "/*"+end)
		for _, begin := range begins {
			globs = append(globs, begin+"*"+end)
		}
	}
	for i := range globs {
		for strings.Contains(globs[i], "**") {
			globs[i] = strings.ReplaceAll(globs[i], "**", "*")
		}
	}
	return slices.DeleteFunc(globs, func(g string) bool { return !strings.HasPrefix(g, "/") })
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
	}
	return texts
}

// mostTexts bounds what alternatives multiply to.
const mostTexts = 64

// expand are globs for an expression; \x02 and \x03 are its anchors.
func expand(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpLiteral:
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

// classTexts is a star for what excludes a few characters, and else one character that belongs to it.
func classTexts(re *syntax.Regexp) []string {
	if len(re.Rune) > 0 && re.Rune[len(re.Rune)-1] > 0xffff {
		return []string{"*"}
	}
	if len(re.Rune) == 0 {
		return []string{""}
	}
	return []string{string(re.Rune[0])}
}
