package policy

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// App is what the bundle knows of an app, read back from data.sallyport.config: its access rules decide as those it was
// built from. Descriptions and controls are not in a bundle.
func (b *Bundle) App(name string) (*App, error) {
	var config configData
	if err := json.Unmarshal(b.contents.data, &config); err != nil {
		return nil, fmt.Errorf("reading the policy's data: %w", err)
	}
	data, known := config.Apps[name]
	if !known {
		return nil, fmt.Errorf("the policy knows no app %q", name)
	}
	app := &App{Name: data.Name, Owner: data.Owner, Sensitivity: data.Sensitivity, Labels: data.Labels, Access: make(Access, len(data.Rules)),
		ShieldThreshold: data.ShieldThreshold, CrossSite: data.CrossSite, ClientCert: data.ClientCert, Providers: sortedNames(data.Providers)}
	for i := range data.Rules {
		r, err := data.Rules[i].rule()
		if err != nil {
			return nil, fmt.Errorf("reading access rule %s of app %s: %w", data.Rules[i].ID, name, err)
		}
		app.Access[i] = r
	}
	return app, nil
}

// rule is what the data was made of.
func (d *ruleData) rule() (r Rule, err error) {
	r = Rule{ID: d.ID, Public: d.Public, Groups: d.Groups, Emails: sortedNames(d.Emails), Methods: sortedNames(d.Methods), Paths: d.Paths.list()}
	if d.Methods["GET"] {
		r.Methods = slices.DeleteFunc(r.Methods, func(m string) bool { return m == "HEAD" })
	}
	for _, domain := range d.Domains {
		r.Domains = append(r.Domains, strings.TrimPrefix(domain, "@"))
	}
	for _, text := range d.Networks {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return r, err
		}
		r.Networks = append(r.Networks, network)
	}
	if d.StepUp != nil {
		r.MFA, r.ACR, r.MaxAge = d.StepUp.MFA, d.StepUp.ACR, time.Duration(d.StepUp.MaxAgeS)*time.Second
	}
	if d.Hours != nil {
		r.Hours = hoursNamed(d.Hours.Text)
		return r, r.Hours.Check()
	}
	return r, nil
}

// list is what pathsData was given, less what "/a/b/" implies.
func (d *pathData) list() []string {
	if d == nil {
		return nil
	}
	paths := slices.Clone(d.Below)
	for _, p := range sortedNames(d.Exact) {
		if !slices.Contains(d.Below, p+"/") {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths
}

// hoursNamed reads what String wrote.
func hoursNamed(text string) *Hours {
	h := new(Hours)
	days, span, both := cutLast(text, " ")
	switch {
	case !strings.Contains(text, ":"):
		days, span = text, ""
	case !both:
		days, span = "", text
	}
	if days != "" {
		h.Days = strings.Split(days, ", ")
	}
	h.From, h.To, _ = strings.Cut(span, "-")
	return h
}

// Open reports whether hours that were checked include a minute, counted from midnight, of a day such as mon.
func (h *Hours) Open(weekday string, minute int) bool {
	week, err := h.windows()
	day := slices.Index(weekdays[:], weekday)
	if err != nil || day < 0 {
		return false
	}
	return slices.ContainsFunc(week[day], func(w window) bool { return w.from <= minute && minute < w.to })
}
