package policy

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestConfigCheck(t *testing.T) {
	for name, c := range map[string]struct {
		config Config
		want   string
	}{
		"zero":             {Config{}, ""},
		"zone":             {Config{Timezone: "Europe/Berlin"}, ""},
		"no zone":          {Config{Timezone: "Europe/Bärlin"}, `timezone "Europe/Bärlin": unknown time zone`},
		"machine's zone":   {Config{Timezone: "Local"}, `"Local" is not a time zone`},
		"negative":         {Config{Deadline: -1}, "deadline -1ns is not between"},
		"longer than sane": {Config{Deadline: time.Minute}, "deadline 1m0s is not between"},
		"headers":          {Config{Headers: []string{"X-Tenant", "accept-language"}}, ""},
		"a credential":     {Config{Headers: []string{"Cookie"}}, `"Cookie" is no header that a policy may read`},
		"no header":        {Config{Headers: []string{"X_Tenant"}}, `"X_Tenant" is no header`},
	} {
		wantError(t, name, c.config.Check(), c.want)
	}
}

func TestRuleCheck(t *testing.T) {
	staff := []string{"staff"}
	net := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	for name, c := range map[string]struct {
		rule Rule
		want string
	}{
		"groups":            {Rule{Groups: staff}, ""},
		"public":            {Rule{Public: true, Networks: net("10.0.0.0/8")}, ""},
		"closed paths":      {Rule{Paths: []string{"/admin/"}}, ""},
		"nobody":            {Rule{}, "the rule names nobody"},
		"nobody restricted": {Rule{MFA: true}, "nobody is named whom mfa"},
		"hours for nobody":  {Rule{Paths: []string{"/x"}, Hours: &Hours{Days: []string{"mon"}}}, "nobody is named whom mfa"},
		"public and groups": {Rule{Public: true, Groups: staff}, "groups, emails and domains beside it would have no effect"},
		"public and mfa":    {Rule{Public: true, MFA: true}, "mfa, acr and max_age cannot be demanded"},
		"public and age":    {Rule{Public: true, MaxAge: time.Hour}, "cannot be demanded"},
		"relative path":     {Rule{Groups: staff, Paths: []string{"a"}}, `path "a": a path begins with /`},
		"glob":              {Rule{Groups: staff, Paths: []string{"/a/*"}}, "patterns are not offered"},
		"regex":             {Rule{Groups: staff, Paths: []string{"^/foo/.*/bar$"}}, "a path begins with /"},
		"encoded":           {Rule{Groups: staff, Paths: []string{"/a%20b"}}, "write the path decoded"},
		"dots":              {Rule{Groups: staff, Paths: []string{"/a/../b"}}, `not canonical; write "/b"`},
		"double slash":      {Rule{Groups: staff, Paths: []string{"//a"}}, `not canonical; write "/a"`},
		"two at the end":    {Rule{Groups: staff, Paths: []string{"/a//"}}, "not canonical"},
		"semicolon":         {Rule{Groups: staff, Paths: []string{"/a;b"}}, "no canonical path contains"},
		"control":           {Rule{Groups: staff, Paths: []string{"/a\n"}}, "control characters"},
		"broken UTF-8":      {Rule{Groups: staff, Paths: []string{"/\xff"}}, "control characters and broken UTF-8"},
		"long path":         {Rule{Groups: staff, Paths: []string{"/" + strings.Repeat("a", MaxPath)}}, "longer than 4096 bytes"},
		"root":              {Rule{Groups: staff, Paths: []string{"/", "/a", "/a/", "/ü/b c"}}, ""},
		"small method":      {Rule{Groups: staff, Methods: []string{"get"}}, `method "get": write an HTTP method in capitals`},
		"method":            {Rule{Groups: staff, Methods: []string{"PROPFIND", "M-SEARCH"}}, ""},
		"empty group":       {Rule{Groups: []string{""}}, `group "": a group name is`},
		"email":             {Rule{Emails: []string{"Ada.L+x@Corp.example"}}, ""},
		"email pattern":     {Rule{Emails: []string{"*@corp.example*"}}, "write an address such as"},
		"email without at":  {Rule{Emails: []string{"corp.example"}}, "write an address such as"},
		"domain with at":    {Rule{Domains: []string{"@corp.example"}}, "without @"},
		"domain pattern":    {Rule{Domains: []string{"*.corp.example"}}, "without patterns"},
		"domain":            {Rule{Domains: []string{"Corp.example"}}, ""},
		"seconds":           {Rule{Groups: staff, MaxAge: 90 * time.Second}, "max_age 1m30s: write whole minutes"},
		"negative age":      {Rule{Groups: staff, MaxAge: -time.Minute}, "whole minutes"},
		"empty acr":         {Rule{Groups: staff, ACR: []string{""}}, "empty authentication context class"},
		"host bits":         {Rule{Groups: staff, Networks: net("10.1.2.3/8")}, "10.0.0.0/8 is the network it lies in"},
		"mapped":            {Rule{Groups: staff, Networks: net("::ffff:10.0.0.0/104")}, "write the IPv4 prefix itself"},
		"no network":        {Rule{Groups: staff, Networks: make([]netip.Prefix, 1)}, "not an address prefix"},
		"id":                {Rule{ID: "a b", Groups: staff}, `id "a b": use up to 64`},
		"hours":             {Rule{Groups: staff, Hours: &Hours{}}, "hours: name days, or from and to"},
	} {
		wantError(t, name, c.rule.Check(), c.want)
	}
}

func TestAppCheck(t *testing.T) {
	rule := Rule{ID: "x", Groups: []string{"staff"}}
	for name, c := range map[string]struct {
		app  App
		want string
	}{
		"nobody":         {App{Name: "wiki"}, ""},
		"no name":        {App{}, `app name ""`},
		"bad name":       {App{Name: "a/b"}, `app name "a/b"`},
		"bad rule":       {App{Name: "wiki", Access: Access{rule, {}}}, "app wiki: access rule 2: the rule names nobody"},
		"two of one id":  {App{Name: "wiki", Access: Access{rule, {Groups: []string{"a"}}, rule}}, `access rule 3: its id "x" is that of rule 1`},
		"default ids":    {App{Name: "wiki", Access: Access{{Groups: []string{"a"}}, {Groups: []string{"b"}}}}, ""},
		"many labels":    {App{Name: "wiki", Labels: map[string]string{"a": strings.Repeat("x", maxLabels)}}, "the labels take"},
		"long owner":     {App{Name: "wiki", Owner: strings.Repeat("x", maxWord)}, "owner and sensitivity"},
		"id of a number": {App{Name: "wiki", Access: Access{{ID: "access/2", Groups: []string{"a"}}, {Groups: []string{"b"}}}}, `access rule 2: its id "access/2" is that of rule 1`},
	} {
		wantError(t, name, c.app.Check(), c.want)
	}
	_, err := Build(Config{}, []App{{Name: "wiki"}, {Name: "wiki"}})
	wantError(t, "twice", err, "app wiki is there twice")
	_, err = Build(Config{}, []App{{Name: "wiki"}}, "bake_cake")
	wantError(t, "obligation", err, `unknown obligation "bake_cake"`)
}

func TestHoursCheck(t *testing.T) {
	for name, c := range map[string]struct {
		hours Hours
		want  string
	}{
		"days":          {Hours{Days: []string{"mon", "fri"}}, ""},
		"span of days":  {Hours{Days: []string{"fri-mon"}, From: "08:00", To: "18:00"}, ""},
		"no day":        {Hours{Days: []string{"monday"}}, `day "monday": write mon`},
		"no span":       {Hours{Days: []string{"mon-"}}, `day "mon-"`},
		"twice":         {Hours{Days: []string{"mon-fri", "wed"}}, `day "wed": wed is there twice`},
		"half":          {Hours{From: "08:00"}, "from and to belong together"},
		"same":          {Hours{From: "08:00", To: "08:00"}, "from and to are the same"},
		"hour":          {Hours{From: "8:00", To: "18:00"}, `from "8:00": write a time of day`},
		"minute":        {Hours{From: "08:00", To: "18:60"}, `to "18:60"`},
		"sign":          {Hours{From: "+8:00", To: "18:00"}, `from "+8:00"`},
		"after the end": {Hours{From: "08:00", To: "24:01"}, `to "24:01"`},
		"from the end":  {Hours{From: "24:00", To: "08:00"}, "24:00 is only an end"},
		"to the end":    {Hours{From: "08:00", To: "24:00"}, ""},
	} {
		wantError(t, name, c.hours.Check(), c.want)
	}
}

// TestHoursOfTheWeek asks the policy at every half hour of a week.
func TestHoursOfTheWeek(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		hours Hours
		open  func(day time.Weekday, minute int) bool
	}{
		"office": {Hours{Days: []string{"mon-fri"}, From: "08:00", To: "18:00"}, func(d time.Weekday, m int) bool {
			return d != time.Saturday && d != time.Sunday && m >= 8*60 && m < 18*60
		}},
		"half hours": {Hours{Days: []string{"sun"}, From: "08:30", To: "09:30"}, func(d time.Weekday, m int) bool {
			return d == time.Sunday && m >= 510 && m < 570
		}},
		"over midnight": {Hours{Days: []string{"sat"}, From: "22:00", To: "06:00"}, func(d time.Weekday, m int) bool {
			return d == time.Saturday && m >= 22*60 || d == time.Sunday && m < 6*60
		}},
		"to midnight":   {Hours{From: "20:00", To: "00:00"}, func(_ time.Weekday, m int) bool { return m >= 20*60 }},
		"weekend":       {Hours{Days: []string{"sat", "sun"}}, func(d time.Weekday, _ int) bool { return d == time.Saturday || d == time.Sunday }},
		"around":        {Hours{Days: []string{"sat-mon"}}, func(d time.Weekday, _ int) bool { return d <= time.Monday || d == time.Saturday }},
		"every evening": {Hours{From: "23:30", To: "00:30"}, func(_ time.Weekday, m int) bool { return m >= 23*60+30 || m < 30 }},
	} {
		e := newEngine(t, Config{Timezone: "Europe/Berlin", Memo: true}, []App{{Name: "wiki", Access: Access{{Groups: []string{"staff"}, Hours: &c.hours}}}}, nil)
		in := person("wiki", "staff")
		for i := range 7 * 48 {
			at := monday.Add(time.Duration(i) * 30 * time.Minute)
			in.Context.SetTime(at, zone)
			local := at.In(zone)
			want := c.open(local.Weekday(), local.Hour()*60+local.Minute())
			if v := e.Decide(t.Context(), in); v.Allow != want {
				t.Fatalf("%s: %s: got %s", name, in.Context.Time, v.JSON)
			}
		}
	}
}

// TestPathsOfARule decides on "that path and all below".
func TestPathsOfARule(t *testing.T) {
	e := newEngine(t, Config{}, []App{{Name: "wiki", Access: Access{
		{ID: "folder", Paths: []string{"/a/b/", "/exact"}, Groups: []string{"staff"}},
		{ID: "rest", Groups: []string{"staff"}},
	}}, {Name: "all", Access: Access{{Paths: []string{"/"}, Groups: []string{"staff"}}}}}, nil)
	for path, rule := range map[string]string{
		"/a/b/": "folder", "/a/b": "folder", "/a/b/c": "folder", "/a/b/c/d": "folder", "/exact": "folder",
		"/a/bc": "rest", "/a": "rest", "/a/": "rest", "/exact/": "rest", "/exact/x": "rest", "/A/B/": "rest", "/": "rest",
	} {
		in := person("wiki", "staff")
		in.Resource.Path = path
		v := e.Decide(t.Context(), in)
		if !v.Allow || v.Decision.Reasons[0].Rule != rule {
			t.Errorf("%s: got %s, want rule %s", path, v.JSON, rule)
		}
		in.Resource.ID = "all"
		wantVerdict(t, e.Decide(t.Context(), in), ReasonAllow, "")
	}
}

// TestClosedFolderClosesItsFrontDoor: a rule that names nobody, before one that admits everybody.
func TestClosedFolderClosesItsFrontDoor(t *testing.T) {
	e := newEngine(t, Config{}, []App{{Name: "wiki", Access: Access{{Paths: []string{"/internal/"}}, {Public: true}}}}, nil)
	for path, reason := range map[string]string{"/": ReasonAllow, "/internal": ReasonUnauthenticated, "/internal/x": ReasonUnauthenticated} {
		in := stranger("wiki")
		in.Resource.Path = path
		wantVerdict(t, e.Decide(t.Context(), in), reason, "")
	}
}

func TestGetIncludesHead(t *testing.T) {
	e := newEngine(t, Config{}, []App{{Name: "wiki", Access: Access{{Methods: []string{"GET"}, Groups: []string{"staff"}}}}}, nil)
	for method, reason := range map[string]string{"GET": ReasonAllow, "HEAD": ReasonAllow, "POST": ReasonPolicy, "OPTIONS": ReasonPolicy} {
		in := person("wiki", "staff")
		in.Action.Method = method
		wantVerdict(t, e.Decide(t.Context(), in), reason, "")
	}
}

func wantError(t *testing.T, name string, err error, want string) {
	t.Helper()
	if want == "" && err == nil || want != "" && err != nil && strings.Contains(err.Error(), want) {
		return
	}
	t.Errorf("%s: got %v, want %q", name, err, want)
}
