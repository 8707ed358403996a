package diff

import (
	"cmp"
	"slices"
	"strings"

	"sallyport/policy/review"
)

// By sums the findings up in the ways people ask for them.
type By struct {
	People []Sum `json:"people"`
	Groups []Sum `json:"groups"`
	Apps   []Sum `json:"apps"`
	Rules  []Sum `json:"rules"` // as app:rule, the one that decides now, or else the one that did
}

// Sum is how many findings of each change concern somebody or something.
type Sum struct {
	Name     string                `json:"name"`
	Findings map[review.Change]int `json:"findings"`
	Apps     []string              `json:"apps,omitempty"`
	Requests int64                 `json:"requests"`
}

// sums collects one of the lists.
type sums map[string]*Sum

func (s sums) add(f *Finding, names ...string) {
	for _, name := range names {
		sum := s[name]
		if sum == nil {
			sum = &Sum{Name: name, Findings: make(map[review.Change]int)}
			s[name] = sum
		}
		sum.Findings[f.Change]++
		sum.Requests += f.Requests
		if at, known := slices.BinarySearch(sum.Apps, f.App); !known {
			sum.Apps = slices.Insert(sum.Apps, at, f.App)
		}
	}
}

// list has those first of whom the gravest changes are most.
func (s sums) list() []Sum {
	list := make([]Sum, 0, len(s))
	for _, sum := range s {
		list = append(list, *sum)
	}
	slices.SortFunc(list, func(a, b Sum) int {
		for _, change := range review.Changes() {
			if c := cmp.Compare(b.Findings[change], a.Findings[change]); c != 0 {
				return c
			}
		}
		return strings.Compare(a.Name, b.Name)
	})
	return list
}

// sumUp fills By.
func (r *Report) sumUp() {
	people, groups, apps, rules := sums{}, sums{}, sums{}, sums{}
	for i := range r.Findings {
		f := &r.Findings[i]
		people.add(f, f.People...)
		groups.add(f, f.Groups...)
		apps.add(f, f.App)
		if rule := f.rule(); rule != "" {
			rules.add(f, f.App+":"+rule)
		}
	}
	r.By = By{people.list(), groups.list(), apps.list(), rules.list()}
}

// rule is the one that the change comes from, as far as one can be named.
func (f *Finding) rule() string {
	return cmp.Or(f.To.Rule, f.From.Rule)
}
