package condition

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"sallyport/policy"
)

// shown is how many of many values a sentence names.
const shown = 8

// some names the first of many.
func some(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	if len(words) <= shown {
		return strings.Join(words, ", ")
	}
	return strings.Join(words[:shown], ", ") + fmt.Sprintf(" and %d more", len(words)-shown)
}

func or(words []string) string {
	switch n := len(words); {
	case n == 0:
		return "none"
	case n > shown:
		return strings.Join(words[:shown], ", ") + fmt.Sprintf(" or %d others", n-shown)
	case n > 1:
		return strings.Join(words[:n-1], ", ") + " or " + words[n-1]
	}
	return words[0]
}

func paths(list []string) string {
	said := make([]string, len(list))
	for i, p := range list {
		said[i] = p
		if strings.HasSuffix(p, "/") {
			said[i] += "…" // and all below
		}
	}
	return or(said)
}

func networks(list []netip.Prefix) string {
	said := make([]string, len(list))
	for i, n := range list {
		said[i] = n.String()
	}
	return or(said)
}

// who says whom a rule admits.
func who(r *policy.Rule) string {
	var said []string
	if r.Public {
		said = append(said, "anybody, signed in or not")
	}
	switch len(r.Groups) {
	case 0:
	case 1:
		said = append(said, "in the group "+r.Groups[0])
	default:
		said = append(said, "in one of the groups "+or(r.Groups))
	}
	if len(r.Emails) > 0 {
		said = append(said, "with the verified address "+or(r.Emails))
	}
	if len(r.Domains) > 0 {
		said = append(said, "with a verified address of "+or(r.Domains))
	}
	if len(said) == 0 {
		return "nobody: the rule closes what it matches"
	}
	return strings.Join(said, ", or ")
}

func minutes(d time.Duration) string {
	if d == time.Minute {
		return "a minute"
	}
	return strconv.Itoa(int(d/time.Minute)) + " minutes"
}

func clock(minute int) string { return fmt.Sprintf("%02d:%02d", minute/60, minute%60) }
