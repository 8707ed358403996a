package matrix

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/policy"
)

// survey is the comparison of both policies on one app.
type survey struct {
	ctx   context.Context
	cfg   *Config
	app   App
	sides [2]*side

	// The axes: who, method and path first, then those of circumstances.
	all     []axis
	people  []person
	methods []method
	paths   []pattern
	samples []sample // paths tried for their own sake; they come first
	week    *week
	ages    []int64 // where the spans of the axis of ages begin, in seconds

	outcomes    map[string]*outcome
	order       []string // of outcomes, as they were found
	findings    []Finding
	incomplete  []string
	evaluations int64
}

// The first axes. Others follow.
const (
	whoAxis = iota
	methodAxis
	pathAxis
	firstCircumstance
)

// axis is one thing that requests differ in.
type axis struct {
	name   string
	signIn bool // strangers have none of it
	values []value
	// class tells apart the values that one policy can; v is the part of it that decides.
	class func(i int, v view) string
	// usual is the value that goes with how a person usually signs in; nil where nothing is usual.
	usual func(p *person) int
}

// value is one value of an axis, with the other values that nothing tells from it.
type value struct {
	label string
	set   func(in *policy.Input, zone *time.Location)
	// vary sets another value that this one stands for; nil if it stands for itself.
	vary func(in *policy.Input, zone *time.Location, n uint64)
}

// point is a place on each axis.
type point []int

// side is one of the policies.
type side struct {
	engine *policy.Engine
	zone   *time.Location
	has    bool // it knows the app
	facts  policy.App
	rules  []policy.Selector
	own    *policy.Constants // nil: access rules alone decide
	texts  *named            // of own
	opaque bool              // its Rego is not what this program ships: its rules may mean anything
}

// view is the part of one policy that decides a request: a rule, unless nil, and the app's own package, unless nil.
type view struct {
	facts  *policy.App // what the policy says of the app
	rule   *policy.Selector
	own    *policy.Constants
	texts  *named
	opaque bool
}

// named are the texts that a package compares with some places.
type named struct {
	groups, weekdays []string
}

// reads reports whether the app's own package reads a place under input, or part of it.
func (v view) reads(place string) bool { return v.opaque || v.own != nil && readsPlace(v.own, place) }

func readsPlace(c *policy.Constants, place string) bool {
	return c.All || slices.ContainsFunc(c.Reads, func(read string) bool {
		return read == place || strings.HasPrefix(read, place+".") || strings.HasPrefix(place, read+".")
	})
}

func newSurvey(ctx context.Context, cfg *Config, name string) (*survey, error) {
	s := &survey{ctx: ctx, cfg: cfg, app: App{Name: name}, outcomes: make(map[string]*outcome)}
	var prints [2]string
	for i, e := range []*policy.Engine{cfg.From, cfg.To} {
		p := &side{engine: e, opaque: !e.Shipped()}
		s.sides[i] = p
		zone, err := e.Bundle().Zone()
		if err != nil {
			return nil, err
		}
		p.zone = zone
		if p.facts, p.has = e.App(name); !p.has {
			continue
		}
		s.app.In[i], s.app.Facts[i] = true, p.facts
		if p.rules, err = e.Selectors(name); err != nil {
			return nil, err
		}
		if p.own, err = e.Constants(ctx, name); err != nil {
			return nil, err
		}
		if p.own != nil {
			p.texts = &named{p.own.At("subject.groups").Strings, p.own.At("context.weekday").Strings}
		}
		if prints[i], err = e.Fingerprint(ctx, name); err != nil {
			return nil, err
		}
	}
	s.app.Same = prints[0] == prints[1]
	return s, nil
}

// axes lays out what the app's requests can differ in.
func (s *survey) axes() {
	s.all = []axis{s.peopleAxis(), s.methodsAxis(), s.pathsAxis(), s.timeAxis(), s.networkAxis(), s.mfaAxis(), s.acrAxis(), s.ageAxis()}
	s.all = append(s.all, s.otherAxes()...)
	s.gaps()
}

// pair is a set of methods and paths that the same rules of both policies decide and nothing else tells apart.
type pair struct {
	views  [2]view
	method int // one of them
	path   int
	cells  []box // on the first axes; who is left empty
}

func (s *survey) pairs() []*pair {
	bySignature := make(map[string]*pair)
	cells := make(map[string][][2]int)
	var order []string
	for m := range s.methods {
		for p := range s.paths {
			key := s.pairKey(m, p)
			if bySignature[key] == nil {
				bySignature[key] = &pair{views: [2]view{s.sides[0].view(s, m, p), s.sides[1].view(s, m, p)}, method: m, path: p}
				order = append(order, key)
			}
			cells[key] = append(cells[key], [2]int{m, p})
		}
	}
	list := make([]*pair, len(order))
	for i, key := range order {
		list[i] = bySignature[key]
		for _, c := range cells[key] {
			list[i].cells = append(list[i].cells, box{newSet(len(s.people)), setOf(len(s.methods), c[0]), setOf(len(s.paths), c[1])})
		}
		list[i].cells = merge(list[i].cells, firstCircumstance)
	}
	return list
}

// view is what of the policy decides a method and path.
func (p *side) view(s *survey, method, path int) view {
	v := view{facts: &p.facts, own: p.own, texts: p.texts, opaque: p.opaque && p.has}
	if !p.has || p.own != nil && !p.own.Access {
		return v
	}
	if place := deciding(p.rules, s.methods[method].verb, s.paths[path].example); place < len(p.rules) {
		v.rule = &p.rules[place]
	}
	return v
}

func (s *survey) pairKey(m, p int) string {
	var b strings.Builder
	for _, side := range s.sides {
		v := side.view(s, m, p)
		if v.rule != nil {
			b.WriteString(v.rule.ID)
		}
		b.WriteByte('|')
		if v.reads("action.method") || v.reads("action.upgrade") {
			b.WriteString(strconv.Itoa(m))
		} else if v.reads("action.name") {
			b.WriteString(s.methods[m].action)
		}
		b.WriteByte('|')
		if v.reads("resource.path") || v.reads("resource.segments") {
			b.WriteString(strconv.Itoa(p))
		}
		b.WriteByte('|')
	}
	return b.String()
}

// person classes: those whom neither policy can tell apart on a pair of method and path.
type crowd struct {
	members  set
	one      int
	views    [2]view // without a rule that does not list them
	stranger bool
}

func (s *survey) crowds(p *pair) []*crowd {
	byKey := make(map[string]*crowd)
	var list []*crowd
	for i := range s.people {
		subject := &s.people[i].subject
		views := p.views
		var key []byte
		for j := range views {
			if r := views[j].rule; r != nil {
				listed := lists(r, subject)
				key = strconv.AppendBool(key, listed)
				if !listed && !views[j].opaque {
					views[j].rule = nil
				}
			}
			key = append(key, '|')
			key = appendRead(key, subject, views[j])
		}
		c := byKey[string(key)]
		if c == nil {
			c = &crowd{members: newSet(len(s.people)), one: i, views: views, stranger: subject.Type == policy.TypeAnonymous}
			byKey[string(key)] = c
			list = append(list, c)
		}
		c.members.add(i)
	}
	return list
}

// ask asks both policies about every class of requests.
func (s *survey) ask() error {
	pairs := s.pairs()
	type question struct {
		pair   *pair
		crowd  *crowd
		splits [][]group
	}
	var questions []question
	total := 0
	for _, p := range pairs {
		for _, c := range s.crowds(p) {
			splits := s.splits(c)
			size := 1
			for _, groups := range splits {
				size = min(size*len(groups), s.cfg.Budget+1)
			}
			questions = append(questions, question{p, c, splits})
			total += size
		}
	}
	whole := total <= s.cfg.Budget
	if !whole {
		s.incomplete = append(s.incomplete, fmt.Sprintf("app %s: more than %d classes of requests; circumstances were tried one at a time", s.app.Name, s.cfg.Budget))
	}
	for _, q := range questions {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		at := make(point, len(s.all))
		at[whoAxis], at[methodAxis], at[pathAxis] = q.crowd.one, q.pair.method, q.pair.path
		for _, choice := range choices(q.splits, whole) {
			where := make(box, len(s.all))
			for i, g := range choice {
				where[firstCircumstance+i] = g.members
				at[firstCircumstance+i] = g.one
			}
			s.compare(at, where, q.pair, q.crowd)
		}
	}
	return nil
}

// group is a set of values of one axis that are not told apart, and one of them.
type group struct {
	members set
	one     int
}

// splits are the groups on each axis of circumstances.
func (s *survey) splits(c *crowd) [][]group {
	list := make([][]group, 0, len(s.all)-firstCircumstance)
	for a := firstCircumstance; a < len(s.all); a++ {
		x := &s.all[a]
		if c.stranger && x.signIn {
			list = append(list, []group{{fullSet(len(x.values)), 0}})
			continue
		}
		var groups []group
		place := make(map[string]int)
		for i := range x.values {
			key := x.class(i, c.views[0]) + "|" + x.class(i, c.views[1])
			at, known := place[key]
			if !known {
				at = len(groups)
				place[key] = at
				groups = append(groups, group{newSet(len(x.values)), i})
			}
			groups[at].members.add(i)
		}
		list = append(list, groups)
	}
	return list
}

// choices are all combinations of one group from each axis; unless whole, those in which at most one axis is not at its
// first group.
func choices(splits [][]group, whole bool) [][]group {
	first := make([]group, len(splits))
	for i := range splits {
		first[i] = splits[i][0]
	}
	list := [][]group{first}
	for i, groups := range splits {
		base := list
		if !whole {
			base = list[:1]
		}
		for _, g := range groups[1:] {
			for _, c := range base {
				other := slices.Clone(c)
				other[i] = g
				list = append(list, other)
			}
		}
	}
	return list
}

// input is the request at a point, as one of the policies sees it.
func (s *survey) input(at point, p *side) *policy.Input {
	in := new(policy.Input)
	in.Resource = policy.Resource{Type: policy.TypeApp, ID: s.app.Name, Labels: p.facts.Labels, Sensitivity: p.facts.Sensitivity,
		Owner: p.facts.Owner, Host: s.app.Name + ".example"}
	in.Action.Protocol = "HTTP/2.0"
	in.Context.Request = policy.Request{ID: "matrix", FetchSite: "none", CrossSiteUnsafe: new(false)}
	for i := range s.all {
		s.all[i].values[at[i]].set(in, p.zone)
	}
	if !s.triesCerts() && p.facts.ClientCert { // one is shown, or there would be nothing else to see
		in.Subject.Cert = new(policy.Cert)
	}
	return in
}
