import psycopg,time,os
url=os.environ["METERHOUSE_TEST_POSTGRES_URL"].replace("+psycopg","")
def cputot():
    # cpu of all postgres processes of this server
    import subprocess,glob
    t=0
    for p in glob.glob("/proc/[0-9]*"):
        try:
            c=open(p+"/cmdline").read()
            if c.startswith("postgres") or "/postgres" in c.split("\0")[0]:
                f=open(p+"/stat").read().rsplit(")",1)[1].split(); t+=sum(map(int,f[11:15]))
        except OSError: pass
    return t/100
with psycopg.connect(url,autocommit=True) as c:
    print(c.execute("select version()").fetchone(), c.execute("select datname, pg_database_size(datname) from pg_database").fetchall()[:8])
    tmpl=next((r[0] for r in c.execute("select datname from pg_database where datname like 'test_%'").fetchall()),"template0")
    for strat in ("", " strategy file_copy"):
        for i in range(3):
            a=time.time(); b=cputot()
            c.execute("create database suite_x template template0"+strat)
            d=time.time()
            c.execute("drop database suite_x with (force)")
            print(strat, round(d-a,3), round(time.time()-d,3), "cpu", round(cputot()-b,2))
