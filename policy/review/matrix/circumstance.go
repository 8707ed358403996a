package matrix

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/policy"
)

// Names of the axes that findings have fields for.
const (
	networkName = "network"
	mfaName     = "mfa"
	acrName     = "acr"
	ageName     = "age"
)

// networkAxis has a value for each prefix that a policy names, and for addresses in none.
func (s *survey) networkAxis() axis {
	found := map[netip.Prefix]bool{}
	for _, p := range s.sides {
		for i := range p.rules {
			for _, n := range p.rules[i].Networks {
				found[n] = true
			}
		}
		if p.own == nil || !readsPlace(p.own, "context.client.ip") {
			continue
		}
		for _, text := range p.own.At("context.client.ip").Strings {
			if n, err := netip.ParsePrefix(text); err == nil {
				found[n.Masked()] = true
			} else if ip, err := netip.ParseAddr(text); err == nil {
				found[netip.PrefixFrom(ip, ip.BitLen())] = true
			} else if n, ok := octets(text); ok {
				found[n] = true
			}
		}
	}
	prefixes := slices.Collect(maps.Keys(found))
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int {
		if a.Bits() != b.Bits() {
			return b.Bits() - a.Bits()
		}
		return a.Addr().Compare(b.Addr())
	})
	a := axis{name: networkName}
	var addresses []netip.Addr
	add := func(label string, ip netip.Addr) {
		text := ip.String()
		a.values = append(a.values, value{label: label, set: func(in *policy.Input, _ *time.Location) { in.Context.Client.IP = text }})
		addresses = append(addresses, ip)
	}
	if ip, ok := addressOf(prefixes, -1); ok {
		add(anyOther, ip)
	}
	for i, p := range prefixes {
		if ip, ok := addressOf(prefixes, i); ok {
			add(p.String(), ip)
		}
	}
	a.class = func(i int, v view) string {
		if v.reads("context.client.ip") {
			return strconv.Itoa(i)
		}
		return strconv.FormatBool(v.rule == nil || near(v.rule, addresses[i]))
	}
	return a
}

// octets is the network of the addresses that begin with a text such as "10.1.".
func octets(text string) (netip.Prefix, bool) {
	n := strings.Count(text, ".")
	if n < 1 || n > 3 || !strings.HasSuffix(text, ".") {
		return netip.Prefix{}, false
	}
	ip, err := netip.ParseAddr(text + strings.Repeat("0.", 3-n) + "0")
	return netip.PrefixFrom(ip, 8*n), err == nil
}

// addressOf is an address in the prefix at a place and in no longer one; place -1 means an address in none.
func addressOf(prefixes []netip.Prefix, place int) (netip.Addr, bool) {
	candidates := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("203.0.113.77"), netip.MustParseAddr("8.8.4.4"), netip.MustParseAddr("2001:db8::1")}
	for _, p := range prefixes {
		first, last := p.Addr(), lastOf(p)
		candidates = append(candidates, first, last, first.Prev(), last.Next(), first.Next(), last.Prev())
	}
	if place >= 0 {
		candidates = append([]netip.Addr{prefixes[place].Addr().Next()}, candidates...)
	}
	for _, ip := range candidates {
		longest := slices.IndexFunc(prefixes, func(p netip.Prefix) bool { return ip.IsValid() && p.Contains(ip) })
		if ip.IsValid() && longest == place {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	ip, _ := netip.AddrFromSlice(b)
	return ip
}

func (s *survey) mfaAxis() axis {
	a := axis{name: mfaName, signIn: true}
	for i, with := range []bool{false, true} {
		a.values = append(a.values, authnValue([]string{"without", "with"}[i], func(n *policy.Authn) { n.MFA = with }))
	}
	a.class = func(i int, v view) string {
		if v.rule != nil && v.rule.MFA || v.reads("subject.authn.mfa") {
			return strconv.Itoa(i)
		}
		return ""
	}
	a.usual = func(p *person) int {
		if p.subject.Authn.MFA {
			return 1
		}
		return 0
	}
	return a
}

// authnValue is a value that says how people signed in.
func authnValue(label string, set func(*policy.Authn)) value {
	return value{label: label, set: func(in *policy.Input, _ *time.Location) {
		if in.Subject.Authn != nil {
			set(in.Subject.Authn)
		}
	}}
}

// otherACR stands for every authentication context class that no policy names.
const otherACR = "urn:example:other"

func (s *survey) acrAxis() axis {
	named := map[string]bool{}
	for _, p := range s.sides {
		for i := range p.rules {
			for _, acr := range p.rules[i].ACR {
				named[acr] = true
			}
		}
		if p.own != nil && readsPlace(p.own, "subject.authn.acr") {
			for _, text := range p.own.At("subject.authn.acr").Strings {
				if plausibleWord(text) {
					named[text] = true
				}
			}
			for i := range s.people {
				if n := s.people[i].subject.Authn; n != nil && n.ACR != "" {
					named[n.ACR] = true
				}
			}
		}
	}
	values := append([]string{""}, slices.Sorted(maps.Keys(named))...)
	a := axis{name: acrName, signIn: true}
	for _, acr := range values {
		a.values = append(a.values, authnValue(acr, func(n *policy.Authn) { n.ACR = acr }))
	}
	a.values = append(a.values, authnValue(anyOther, func(n *policy.Authn) { n.ACR = otherACR }))
	values = append(values, otherACR)
	a.class = func(i int, v view) string {
		if v.reads("subject.authn.acr") {
			return strconv.Itoa(i)
		}
		return strconv.FormatBool(v.rule == nil || classed(v.rule, values[i]))
	}
	a.usual = func(p *person) int {
		if i := slices.Index(values, p.subject.Authn.ACR); i >= 0 {
			return i
		}
		return len(values) - 1
	}
	return a
}

// ageAxis has the spans of time since the sign-in that the policies tell apart.
func (s *survey) ageAxis() axis {
	starts := map[int64]bool{0: true}
	for _, p := range s.sides {
		for i := range p.rules {
			if p.rules[i].MaxAge > 0 {
				starts[int64(p.rules[i].MaxAge/time.Second)] = true
			}
		}
		if p.own != nil && (readsPlace(p.own, "subject.authn.age_s") || readsPlace(p.own, "subject.authn.time")) {
			for n := range numbersAround(p.own.At("subject.authn.age_s", "subject.authn.time")) {
				starts[n] = true
			}
		}
	}
	s.ages = slices.Sorted(maps.Keys(starts))
	a := axis{name: ageName, signIn: true}
	for i, start := range s.ages {
		a.values = append(a.values, value{label: strconv.FormatInt(start, 10), set: func(in *policy.Input, _ *time.Location) { setAge(in, start) }})
		if i+1 < len(s.ages) && s.ages[i+1]-start > 60 {
			length := uint64(s.ages[i+1]-start) / 60
			a.values[i].vary = func(in *policy.Input, _ *time.Location, n uint64) { setAge(in, start+int64(n%length)*60) }
		}
	}
	a.class = func(i int, v view) string {
		if v.reads("subject.authn.age_s") || v.reads("subject.authn.time") {
			return strconv.Itoa(i)
		}
		return strconv.FormatBool(v.rule == nil || fresh(v.rule, time.Duration(s.ages[i])*time.Second))
	}
	a.usual = func(*person) int {
		i := 0
		for i+1 < len(s.ages) && s.ages[i+1] <= 60 {
			i++
		}
		return i
	}
	return a
}

func setAge(in *policy.Input, seconds int64) {
	if n := in.Subject.Authn; n != nil {
		age := time.Duration(seconds) * time.Second
		n.AgeS = policy.AgeOf(age)
		n.Time = time.Unix(0, in.Context.TimeNS).Add(-age).UTC().Format(time.RFC3339)
	}
}

// numbersAround are the whole minutes, in seconds, at which a comparison with a number of the package may change.
func numbersAround(c *policy.Constants) map[int64]bool {
	all := map[int64]bool{}
	for _, n := range c.Numbers {
		if n < 0 || n > 366*24*60*60 {
			continue
		}
		for _, around := range []int64{n / 60 * 60, (n/60 + 1) * 60} {
			all[around] = true
		}
		if reckons(c) && n < 1000 { // age_s / 60 < 10
			all[n*60], all[(n+1)*60], all[n*3600], all[(n+1)*3600] = true, true, true, true
		}
	}
	return all
}

// otherAxes are the places under input that an app's own package reads and the access rules do not, and those by which the
// shipped policy refuses otherwise in one policy than in the other.
func (s *survey) otherAxes() []axis {
	var list []axis
	for _, o := range others {
		var readers []*policy.Constants
		for _, p := range s.sides {
			if p.own != nil && readsPlace(p.own, o.place) {
				readers = append(readers, p.own.At(o.place))
			}
		}
		if len(readers) == 0 && (o.shipped == nil || !o.shipped(s)) {
			continue
		}
		a := axis{name: o.place, signIn: o.signIn}
		a.values = o.values(s, readers)
		if o.usual != nil {
			a.usual = o.usual(s, &a)
		} else {
			a.usual = func(*person) int { return 0 }
		}
		a.class = func(i int, v view) string {
			if v.own != nil && v.reads(o.place) || o.counts != nil && (v.opaque || o.counts(v.facts)) {
				return strconv.Itoa(i)
			}
			return ""
		}
		list = append(list, a)
	}
	return list
}

// other is an axis that no access rule reads.
type other struct {
	place  string
	signIn bool
	values func(s *survey, readers []*policy.Constants) []value
	usual  func(s *survey, a *axis) func(*person) int

	// Where the shipped policy may refuse by it: whether the two may do so otherwise, and whether one does in an app.
	shipped func(s *survey) bool
	counts  func(app *policy.App) bool
}

// guardsDiffer reports whether the two policies may refuse otherwise by what a guard of the app says.
func guardsDiffer[T comparable](guard func(*policy.App) T) func(s *survey) bool {
	return func(s *survey) bool {
		from, to := s.sides[0], s.sides[1]
		return from.has && to.has && (guard(&from.facts) != guard(&to.facts) || from.opaque != to.opaque)
	}
}

func threshold(app *policy.App) int { return app.ShieldThreshold }

func crossSite(app *policy.App) bool { return app.CrossSite }

func clientCert(app *policy.App) bool { return app.ClientCert }

var others = []other{
	{place: "subject.authn.amr", signIn: true, values: amrValues, usual: usualLabel(func(p *person) string { return strings.Join(p.subject.Authn.AMR, " ") })},
	{place: "subject.device", signIn: true, values: deviceValues, usual: usualLabel(func(p *person) string { return deviceLabel(p.subject.Device) })},
	{place: placeCert, values: certValues, shipped: guardsDiffer(clientCert), counts: clientCert},
	{place: "subject.session.age_s", signIn: true, values: numberValues(func(in *policy.Input, n int64) {
		if in.Subject.Session != nil {
			in.Subject.Session.AgeS = policy.AgeOf(time.Duration(n) * time.Second)
		}
	})},
	{place: "subject.session.idle_s", signIn: true, values: numberValues(func(in *policy.Input, n int64) {
		if in.Subject.Session != nil {
			in.Subject.Session.IdleS = policy.AgeOf(time.Duration(n) * time.Second)
		}
	})},
	{place: "subject.groups_incomplete", signIn: true, values: flagValues(func(in *policy.Input) { in.Subject.GroupsIncomplete = true })},
	{place: "action.protocol", values: textValues(func(in *policy.Input, s string) { in.Action.Protocol = s }, "HTTP/2.0")},
	{place: "resource.host", values: textValues(func(in *policy.Input, s string) { in.Resource.Host = s }, "")},
	{place: "resource.query", values: textValues(func(in *policy.Input, s string) { in.Resource.Query = s }, "")},
	{place: "context.client.zone", values: textValues(func(in *policy.Input, s string) { in.Context.Client.Zone = s }, "")},
	{place: "context.client.country", values: textValues(func(in *policy.Input, s string) { in.Context.Client.Country = s }, "")},
	{place: "context.request.content_type", values: textValues(func(in *policy.Input, s string) { in.Context.Request.ContentType = s }, "")},
	{place: "context.request.user_agent", values: textValues(func(in *policy.Input, s string) { in.Context.Request.UserAgent = s }, "")},
	{place: "context.request.origin", values: textValues(func(in *policy.Input, s string) { in.Context.Request.Origin = s }, "")},
	{place: "context.request.fetch_site", values: textValues(func(in *policy.Input, s string) { in.Context.Request.FetchSite = s }, "none")},
	{place: "context.request.cross_origin", values: flagValues(func(in *policy.Input) { in.Context.Request.CrossOrigin = true })},
	{place: "context.request.cross_site_unsafe", values: flagValues(func(in *policy.Input) { in.Context.Request.CrossSiteUnsafe = new(true) }),
		shipped: guardsDiffer(crossSite), counts: func(app *policy.App) bool { return !app.CrossSite }},
	{place: "context.request.content_length", values: lengthValues},
	{place: "context.request.headers", values: headerValues},
	{place: "context.shield", values: shieldValues,
		shipped: guardsDiffer(threshold), counts: func(app *policy.App) bool { return app.ShieldThreshold > 0 }},
}

// mostTextValues bounds the values of one place.
const mostTextValues = 40

// textsOf are what a place that holds a text may be compared with.
func textsOf(readers []*policy.Constants) []string {
	var all []string
	for _, c := range readers {
		for _, text := range c.Strings {
			if plausibleText(text) {
				all = append(all, text)
			}
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return all[:min(len(all), mostTextValues)]
}

func plausibleText(text string) bool {
	return text != "" && len(text) <= 64 && strings.Count(text, " ") < 2 && !strings.HasSuffix(text, ".")
}

func textValues(set func(*policy.Input, string), usual string) func(*survey, []*policy.Constants) []value {
	return func(_ *survey, readers []*policy.Constants) []value {
		list := []value{{label: usual, set: func(in *policy.Input, _ *time.Location) { set(in, usual) }}}
		for _, text := range append(textsOf(readers), otherText) {
			if text != usual {
				list = append(list, value{label: text, set: func(in *policy.Input, _ *time.Location) { set(in, text) }})
			}
		}
		return list
	}
}

// otherText is a text that no policy names.
const otherText = "zz-other"

func numberValues(set func(*policy.Input, int64)) func(*survey, []*policy.Constants) []value {
	return func(_ *survey, readers []*policy.Constants) []value {
		all := map[int64]bool{0: true}
		for _, c := range readers {
			for _, n := range c.Numbers {
				if n >= 0 && n < 1e12 {
					all[max(0, n-1)], all[n], all[n+1], all[n/60*60], all[(n/60+1)*60] = true, true, true, true, true
				}
			}
		}
		var list []value
		for _, n := range slices.Sorted(maps.Keys(all)) {
			list = append(list, value{label: strconv.FormatInt(n, 10), set: func(in *policy.Input, _ *time.Location) { set(in, n) }})
		}
		return list
	}
}

func flagValues(set func(*policy.Input)) func(*survey, []*policy.Constants) []value {
	return func(*survey, []*policy.Constants) []value {
		return []value{
			{label: "false", set: func(*policy.Input, *time.Location) {}},
			{label: "true", set: func(in *policy.Input, _ *time.Location) { set(in) }},
		}
	}
}

// lengthValues are lengths of a body, and none, as when there is no body.
func lengthValues(s *survey, readers []*policy.Constants) []value {
	stated := numberValues(func(in *policy.Input, n int64) { in.Context.Request.ContentLength = &n })(s, readers)
	return append([]value{{label: "unknown", set: func(*policy.Input, *time.Location) {}}}, stated...)
}

// mostMethods bounds the methods of authentication that are tried in pairs.
const mostMethods = 8

// amrValues are the methods of each person's usual sign-in, none, some usual ones, and those that a policy names: each
// alone, in pairs, and all.
func amrValues(s *survey, readers []*policy.Constants) []value {
	lists := map[string][]string{"": nil}
	for i := range s.people {
		if n := s.people[i].subject.Authn; n != nil {
			lists[strings.Join(n.AMR, " ")] = n.AMR
		}
	}
	add := func(list ...string) { lists[strings.Join(list, " ")] = list }
	named := slices.DeleteFunc(textsOf(readers), func(text string) bool {
		return len(text) > 8 || !plausibleWord(text) || decisionWords[text] // RFC 8176 §2: names of up to six characters
	})
	add(named...)
	for i, one := range named {
		add(one)
		for _, other := range named[i+1 : max(i+1, min(len(named), mostMethods))] {
			add(one, other)
		}
	}
	add("pwd")
	add("pwd", "otp")
	add("pwd", "otp", "hwk")
	var values []value
	for _, label := range slices.Sorted(maps.Keys(lists)) {
		amr := lists[label]
		values = append(values, authnValue(label, func(n *policy.Authn) { n.AMR = amr }))
	}
	return values
}

// deviceValues are people's usual devices, none, and one for each fact that a package reads, as it may be.
func deviceValues(s *survey, readers []*policy.Constants) []value {
	all := map[string]*policy.Device{deviceLabel(nil): nil}
	add := func(d *policy.Device) { all[deviceLabel(d)] = d }
	for i := range s.people {
		add(s.people[i].subject.Device)
	}
	for _, platform := range append([]string{""}, textsOf(readers)...) {
		if platform != "" && (len(platform) > 16 || !slices.ContainsFunc(readers, func(c *policy.Constants) bool { return readsPlace(c, "subject.device.platform") })) {
			continue
		}
		for _, managed := range factValues(readers, "managed") {
			for _, compliant := range factValues(readers, "compliant") {
				for _, encrypted := range factValues(readers, "encrypted") {
					add(&policy.Device{Platform: platform, Managed: managed, Compliant: compliant, Encrypted: encrypted})
				}
			}
		}
	}
	var values []value
	for _, label := range slices.Sorted(maps.Keys(all)) {
		d := all[label]
		values = append(values, value{label: label, set: func(in *policy.Input, _ *time.Location) {
			if in.Subject.Type != policy.TypeAnonymous {
				in.Subject.Device = d
			}
		}})
	}
	return values
}

// placeCert is where the client's certificate is.
const placeCert = "subject.cert"

// certValues are a certificate of which nothing is known but that it counts, and none.
func certValues(s *survey, _ []*policy.Constants) []value {
	shown := value{label: "shown", set: func(in *policy.Input, _ *time.Location) { in.Subject.Cert = new(policy.Cert) }}
	none := value{label: "none", set: func(*policy.Input, *time.Location) {}}
	if s.sides[0].facts.ClientCert || s.sides[1].facts.ClientCert {
		return []value{shown, none}
	}
	return []value{none, shown}
}

// triesCerts reports whether requests with and without a certificate are tried.
func (s *survey) triesCerts() bool {
	return slices.ContainsFunc(s.all, func(a axis) bool { return a.name == placeCert })
}

// factValues are yes, no and unknown for a fact of a device that a package reads.
func factValues(readers []*policy.Constants, fact string) []*bool {
	if slices.ContainsFunc(readers, func(c *policy.Constants) bool { return readsPlace(c, "subject.device."+fact) }) {
		return []*bool{new(true), new(false), nil}
	}
	return []*bool{nil}
}

func deviceLabel(d *policy.Device) string {
	if d == nil {
		return "unknown"
	}
	text, err := json.Marshal(d)
	if err != nil {
		panic("BUG: device: " + err.Error())
	}
	return string(text)
}

func usualLabel(of func(*person) string) func(*survey, *axis) func(*person) int {
	return func(_ *survey, a *axis) func(*person) int {
		return func(p *person) int {
			return slices.IndexFunc(a.values, func(v value) bool { return v.label == of(p) })
		}
	}
}

// headerValues set each header that a package reads by name to each text it holds.
func headerValues(_ *survey, readers []*policy.Constants) []value {
	values := []value{{label: "none", set: func(*policy.Input, *time.Location) {}}}
	names := map[string]bool{}
	for _, c := range readers {
		for _, name := range headersOf(c) {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		for _, text := range append(textsOf(readers), otherText) {
			values = append(values, value{label: name + ": " + text, set: func(in *policy.Input, _ *time.Location) {
				in.Context.Request.Headers = map[string]string{name: text}
			}})
		}
	}
	return values
}

// shieldValues are findings of inspection with scores around the apps' thresholds and each number of a package's, and
// inspection that took too long.
func shieldValues(s *survey, readers []*policy.Constants) []value {
	thresholds := new(policy.Constants)
	for _, p := range s.sides {
		if p.facts.ShieldThreshold > 0 {
			thresholds.Numbers = append(thresholds.Numbers, int64(p.facts.ShieldThreshold))
		}
	}
	set := func(in *policy.Input, found policy.Shield) {
		found.Rules, found.Body, in.Context.Shield = []int64{}, "whole", &found
	}
	scores := numberValues(func(in *policy.Input, n int64) { set(in, policy.Shield{Score: int(n)}) })(s, slices.Concat(readers, []*policy.Constants{thresholds}))
	for i := range scores {
		scores[i].label = "score " + scores[i].label
	}
	none := value{label: "not inspected", set: func(*policy.Input, *time.Location) {}}
	late := value{label: "timeout", set: func(in *policy.Input, _ *time.Location) { set(in, policy.Shield{Timeout: true}) }}
	return append([]value{none, late}, scores...)
}
