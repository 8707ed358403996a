package directory

import (
	"testing"
	"time"

	"sallyport/policy"
)

const company = `
people:
  - { name: Ada, email: ada@corp.example, groups: [staff, oncall, staff], mfa: true, device: { managed: true } }
  - { email: ben@corp.example, email_verified: false }
  - { name: pipeline, id: "ci|7", type: service }
groups: { board: those who decide }
places: { office: { ip: 10.0.0.7, zone: office } }
`

func TestPeopleAreCompleted(t *testing.T) {
	d, err := Parse([]byte(company))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC)
	for who, want := range map[string]string{
		"Ada":              `{"type":"user","id":"directory|Ada","email":"ada@corp.example","email_verified":true,"groups":["oncall","staff"]`,
		"ben@corp.example": `{"type":"user","id":"directory|ben@corp.example","email":"ben@corp.example","email_verified":false,"groups":[]`,
		"ci|7":             `{"type":"service","id":"ci|7","email_verified":false,"groups":[]`,
	} {
		p, found := d.Find(who)
		if !found {
			t.Errorf("nobody is called %s", who)
			continue
		}
		in := &policy.Input{Subject: p.Subject(now)}
		got := string(in.AppendJSON(nil))
		if got = got[len(`{"subject":`):]; len(got) < len(want) || got[:len(want)] != want {
			t.Errorf("%s is %s\nwant %s…", who, got, want)
		}
	}
	if p, _ := d.Find("ada@corp.example"); p == nil || p.At.Line != 3 || p.Subject(now).Device.Managed == nil {
		t.Errorf("Ada is %+v", p)
	}
	if got := d.GroupNames(); len(got) != 3 || got[0] != "board" {
		t.Errorf("groups %q", got)
	}
	if d.Places["office"].Zone != "office" {
		t.Errorf("places %v", d.Places)
	}
}

func TestProblemsHavePlaces(t *testing.T) {
	for text, want := range map[string]string{
		"people:\n- { groups: [a] }":                              "d.yaml:2:3: people[0]: name, email or id is missing",
		"people:\n- { name: a }\n- { name: a }":                   "d.yaml:3:3: people[1]: a (directory|a) is there twice",
		"people:\n- { name: a, id: x|1 }\n- { name: b, id: x|1 }": "d.yaml:3:3: people[1]: b (x|1) is there twice",
		"people:\n- { name: a, id: x }":                           `d.yaml:2:3: people[0]: id is "x"; it is provider|sub, as in records`,
		"people:\n- { name: a, type: robot }":                     `d.yaml:2:3: people[0]: type is "robot"; it is user or service`,
		"people:\n- { name: a, group: [x] }":                      `d.yaml:2:14: people[0].group: unknown key; did you mean "groups"?`,
		"places: { home: { ip: house } }":                         `d.yaml: places.home.ip: "house" is no address such as 10.1.2.3`,
		"people:\n- { name: a, device: { compliant: perhaps } }":  "d.yaml:2:35: people[0].device.compliant: want true or false",
	} {
		if _, err := ParseFile("d.yaml", []byte(text)); err == nil || err.Error() != want {
			t.Errorf("%q: %v\nwant %s", text, err, want)
		}
	}
	if _, err := Load("none.yaml"); err == nil {
		t.Error("a file that is not there was read")
	}
}
