package matrix

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"sallyport/policy"
)

// What the conditions of an access rule say of a value. It tells which values a rule cannot tell apart; what the policy
// answers is always asked of the policy.

func decides(r *policy.Selector, method, path string) bool {
	if len(r.Methods) > 0 && !slices.Contains(r.Methods, method) {
		return false
	}
	return r.AllPaths || slices.Contains(r.Exact, path) ||
		slices.ContainsFunc(r.Below, func(folder string) bool { return strings.HasPrefix(path, folder) })
}

// deciding is the place of the first rule that decides; len(rules) if none does.
func deciding(rules []policy.Selector, method, path string) int {
	for i := range rules {
		if decides(&rules[i], method, path) {
			return i
		}
	}
	return len(rules)
}

func lists(r *policy.Selector, s *policy.Subject) bool {
	if r.Public || slices.ContainsFunc(r.Groups, func(g string) bool { return slices.Contains(s.Groups, g) }) {
		return true
	}
	email := strings.ToLower(s.Email)
	return s.EmailVerified && (slices.Contains(r.Emails, email) ||
		slices.ContainsFunc(r.Domains, func(d string) bool { return strings.HasSuffix(email, d) }))
}

func open(r *policy.Selector, weekday string, minute int) bool {
	return len(r.Hours) == 0 || slices.ContainsFunc(r.Hours, func(s policy.Span) bool {
		return s.Weekday == weekday && s.From <= minute && minute < s.To
	})
}

func near(r *policy.Selector, ip netip.Addr) bool {
	return len(r.Networks) == 0 || slices.ContainsFunc(r.Networks, func(p netip.Prefix) bool { return p.Contains(ip) })
}

func classed(r *policy.Selector, acr string) bool {
	return len(r.ACR) == 0 || slices.Contains(r.ACR, acr)
}

func fresh(r *policy.Selector, age time.Duration) bool { return r.MaxAge == 0 || age < r.MaxAge }
