exec python3 -I -S -B /work/nbody.py 20000
