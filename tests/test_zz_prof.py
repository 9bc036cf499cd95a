import time, cProfile, pstats
from tests.test_walls import *
from domain.engine import query as q
async def test_prof(world, superuser, known):
    for wall in WALLS:
        cat, role = WALLS[wall]
        db = superuser if role=="superuser" else world.database
        t0=time.time(); all_=list(statements(cat, known)); t1=time.time()
        comp=run=0; sizes=[]
        for asker, asked, roots in all_:
            a=time.perf_counter()
            values={"caller":world.clients[asker].caller.client_id,"nonce":"x"*16}; fp=[]
            shapes=tuple(q._shape(r,values,fp) for r in roots)
            p=q.plan(shapes); b=time.perf_counter(); comp+=b-a
            await p.run(db, values); run+=time.perf_counter()-b
            sizes.append(len(p.sql))
        print(wall, "gen",t1-t0,"compile",comp,"run",run, q.plan.cache_info(), max(sizes), sum(sizes)/len(sizes))
